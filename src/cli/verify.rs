//! `sumpeer verify`: is a binary on disk what the logs have on record?
//!
//! A Go program says itself what it was built from; that names the record, and its sum says whether the program is that
//! one. What a program says of itself is no proof of anything: it only finds the record that the bytes must equal.
//! Asking and proving is that of [`super::get`].

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use url::Url;

use super::Exit;
use super::get::{self, Refusal};
use crate::evidence::buildinfo::BuildInfo;
use crate::evidence::image::{Content, Image};
use crate::model::{Record, Spec, Sum, Target};
use crate::tlog::VerifierKey;

/// Says whether Go programs on disk are what the logs have on record
///
/// Status 0: all are; 3: one is not, or a log was tampered with; 4: not every log has answered; 1: of one it cannot be
/// said.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Programs, as they were installed
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    /// Address of a log to ask; each needs its --key. Several must all name the same sum
    #[arg(long, value_name = "URL")]
    url: Vec<Url>,

    /// Verifier key of the log at the --url in the same place
    #[arg(long, value_name = "VKEY")]
    key: Vec<VerifierKey>,

    /// The system and processor it is for, where it does not say: programs of Go before 1.18
    #[arg(long, value_name = "OS/ARCH")]
    target: Option<Target>,

    /// How long to wait for all of it; a program that was never asked for is built first
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = get::parse_duration)]
    timeout: Duration,

    /// Print a JSON object a line
    #[arg(long)]
    json: bool,
}

/// What was found of one file.
struct Found {
    size: u64,
    sum: Sum,
    spec: Spec,
    record: Record,
}

/// Runs the command. A file of which nothing can be said is told, and the others are looked at all the same.
///
/// # Errors
/// If standard output takes no more, or this is no user's machine.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    let logs = match get::Logs::choose(&args.url, &args.key, args.timeout) {
        Ok(logs) => logs,
        Err(refusal) => return Ok(tell(&refusal)),
    };
    let mut worst = Exit::Ok;
    for file in &args.files {
        let checked = check(file, &args, &logs).await;
        let (line, exit) = describe(file, &checked, args.json);
        writeln!(io::stdout().lock(), "{line}")?;
        if let Err(refusal) = &checked {
            tell(refusal);
        }
        worst = worse(worst, exit);
    }
    Ok(worst)
}

fn tell(refusal: &Refusal) -> Exit {
    eprintln!("sumpeer verify: {refusal}");
    refusal.exit()
}

/// Tampering is told before all else, then what could not be said, then who is missing.
fn worse(one: Exit, other: Exit) -> Exit {
    let order = [Exit::Divergence, Exit::Usage, Exit::Failure, Exit::Incomplete];
    order.into_iter().find(|exit| *exit == one || *exit == other).unwrap_or(Exit::Ok)
}

async fn check(file: &Path, args: &Args, logs: &get::Logs) -> Result<Found, Refusal> {
    let shown = file.display();
    let (size, sum, spec) = read(file, args.target).with_context(|| format!("{shown}"))?;
    let record = logs.record(&spec).await?;
    Ok(Found { size, sum, spec, record })
}

/// Size and sum of a program, and what it says that it was built from.
fn read(file: &Path, target: Option<Target>) -> anyhow::Result<(u64, Sum, Spec)> {
    let file = File::open(file).context("cannot open it")?;
    if !file.metadata().context("cannot look at it")?.is_file() {
        bail!("it is no file");
    }
    let (size, sum) = super::sum::read(&file).context("cannot read it")?;
    let content = Content::new(&file).context("cannot read it")?;
    let image = Image::read(&content)?;
    let info = BuildInfo::read(&content, &image)?;
    let stripped = image.is_stripped(&content).context("its symbol table")?;
    Ok((size, sum, spec(&info, stripped, target)?))
}

/// What a program says that it was built from.
fn spec(info: &BuildInfo, stripped: bool, target: Option<Target>) -> anyhow::Result<Spec> {
    let main = info.main.as_ref().context("it was not built from a module")?;
    if main.replace.is_some() {
        bail!("its main module {} was replaced by another one", main.path);
    }
    if main.version == "(devel)" || main.version.is_empty() {
        bail!("it was built from a folder and not from a published version of {}", main.path);
    }
    let dir = info.path.strip_prefix(&main.path).filter(|dir| dir.is_empty() || dir.starts_with('/'));
    let dir = dir.with_context(|| format!("its package {} is not in its module {}", info.path, main.path))?;
    let target = match (info.setting("GOOS"), info.setting("GOARCH"), target) {
        (Some(goos), Some(goarch), _) => Target::new(goos, goarch)?,
        (_, _, Some(target)) => target,
        _ => bail!("it does not say for which system it was built: say so with --target OS/ARCH"),
    };
    let (module, version, goversion) = (&main.path, &main.version, &info.go_version);
    let variant = if stripped { "-stripped" } else { "" };
    let text = format!("{module}@{version}{dir}/{}-{}-{goversion}{variant}/", target.goos(), target.goarch());
    text.parse().with_context(|| format!("it says that it is {text:?}, which no log can have"))
}

/// The line about a file, and the status that it alone would give.
fn describe(file: &Path, checked: &Result<Found, Refusal>, json: bool) -> (String, Exit) {
    let shown = file.display();
    let (result, exit) = match checked {
        Ok(found) if (found.size, found.sum) == (found.record.size, found.record.sum) => ("match", Exit::Ok),
        Ok(_) => ("differs", Exit::Divergence),
        Err(refusal) if refusal.exit() == Exit::Incomplete => ("incomplete", Exit::Incomplete),
        Err(refusal) => ("unknown", refusal.exit()),
    };
    let line = match (checked, json) {
        (Ok(found), true) => json!({
            "file": file.to_string_lossy(), "result": result, "spec": found.spec.to_string(),
            "size": found.size, "sum": found.sum.to_string(),
            "record": {"size": found.record.size, "sum": found.record.sum.to_string()},
        })
        .to_string(),
        (Err(refusal), true) => {
            Value::to_string(&json!({"file": file.to_string_lossy(), "result": result, "why": refusal.to_string()}))
        }
        (Ok(found), false) if exit == Exit::Ok => format!("{result}  {shown}  {}", found.spec),
        (Ok(found), false) => format!(
            "{result}  {shown}  {}: it is {} of {} bytes, and the record says {} of {} bytes",
            found.spec, found.sum, found.size, found.record.sum, found.record.size
        ),
        (Err(_), false) => format!("{result}  {shown}"),
    };
    (line, exit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::buildinfo::Module;

    fn info(path: &str, module: &str, version: &str) -> BuildInfo {
        let main = Module { path: module.to_owned(), version: version.to_owned(), ..Module::default() };
        let settings = [("GOOS", "linux"), ("GOARCH", "amd64")];
        BuildInfo {
            go_version: "go1.27.1".to_owned(),
            path: path.to_owned(),
            main: Some(main),
            settings: settings.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec(),
            ..BuildInfo::default()
        }
    }

    #[test]
    fn what_a_program_says_names_a_record() {
        let check = |info: BuildInfo, stripped, wanted: &str| match spec(&info, stripped, None) {
            Ok(spec) => assert_eq!(spec.to_string(), wanted),
            Err(error) => assert!(format!("{error:#}").contains(wanted), "{error:#} and not {wanted}"),
        };
        check(info("a.example/m", "a.example/m", "v1.0.0"), false, "a.example/m@v1.0.0/linux-amd64-go1.27.1/");
        check(
            info("a.example/m/cmd/x", "a.example/m", "v1.0.0"),
            true,
            "a.example/m@v1.0.0/cmd/x/linux-amd64-go1.27.1-stripped/",
        );
        check(info("a.example/mm", "a.example/m", "v1.0.0"), false, "is not in its module");
        check(info("a.example/m", "a.example/m", "(devel)"), false, "from a folder");
        check(info("a.example/m", "a.example/m", "v1.0.0+dirty"), false, "no log can have");
        check(BuildInfo { main: None, ..info("m", "m", "v1") }, false, "not built from a module");
        let mut replaced = info("a.example/m", "a.example/m", "v1.0.0");
        replaced.main.as_mut().unwrap().replace = Some(Box::default());
        check(replaced, false, "replaced");
        let mut old = info("a.example/m", "a.example/m", "v1.0.0");
        old.settings.clear();
        check(old.clone(), false, "--target");
        let target = "linux/arm64".parse().ok();
        assert!(spec(&old, false, target).unwrap().to_string().contains("/linux-arm64-"));
    }

    #[test]
    fn the_worst_is_told() {
        use Exit::{Divergence, Failure, Incomplete, Ok};
        assert_eq!(worse(Ok, Ok), Ok);
        assert_eq!((worse(Incomplete, Divergence), worse(Failure, Incomplete)), (Divergence, Failure));
    }
}
