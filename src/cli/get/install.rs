//! The bytes: downloaded beside their final place, checked whole, then put there at once. Or nothing.

use std::fs::{File, Permissions};
use std::io::{self, Seek as _, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use flate2::write::MultiGzDecoder;
use indicatif::ProgressBar;
use reqwest::Response;
use sha2::{Digest as _, Sha256};

use crate::model::{Record, Spec, Sum};

use super::Refusal;
use super::talk::Talk;
use super::wire::Wire;

/// Downloads from one server that may break off before another is tried.
const TRIES: u32 = 3;

/// Where the program goes: the file that was named, or its own name in the folder that was named, or in this one.
pub(super) fn destination(output: Option<&Path>, spec: &Spec) -> Result<PathBuf, Refusal> {
    let file = match output {
        None => PathBuf::from(spec.program_name()),
        Some(folder) if folder.is_dir() => folder.join(spec.program_name()),
        Some(file) => file.to_owned(),
    };
    if file.file_name().is_none() {
        return Err(Refusal::Usage(format!("{} is no name for a file", file.display())));
    }
    Ok(file)
}

/// Puts the record's file in place, executable, from the first server that gives it.
pub(super) async fn install(wires: &[Wire<'_>], record: &Record, file: &Path, talk: &Talk) -> Result<(), Refusal> {
    let folder = match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let shown = file.display();
    // Removed when it goes out of scope, whatever happens.
    let mut staged = tempfile::Builder::new()
        .prefix(".sumpeer-get-")
        .tempfile_in(folder)
        .with_context(|| format!("cannot write to {}", folder.display()))?;
    download_from_any(wires, record, staged.as_file_mut(), talk).await?;

    let placed = (|| {
        staged.as_file().set_permissions(Permissions::from_mode(0o755))?;
        staged.as_file().sync_all()?;
        staged.persist(file)?;
        File::open(folder)?.sync_all()
    })();
    placed.with_context(|| format!("cannot write {shown}"))?;
    Ok(())
}

async fn download_from_any(wires: &[Wire<'_>], record: &Record, staged: &mut File, talk: &Talk) -> Result<(), Refusal> {
    let mut last = anyhow!("no server was asked");
    for wire in wires {
        let bar = talk.bytes(&wire.name, record.size);
        for attempt in 0..TRIES {
            match download(wire, record, staged, &bar).await {
                Ok(()) => {
                    bar.finish_and_clear();
                    return Ok(());
                }
                Err(Refusal::Failed(error)) => {
                    last = error;
                    if attempt + 1 < TRIES && wire.pause(Duration::from_secs(1 << attempt)).await.is_err() {
                        break;
                    }
                }
                Err(refusal) => return Err(refusal),
            }
        }
        bar.finish_and_clear();
    }
    Err(Refusal::Failed(last))
}

/// One download, checked: what the staged file then holds is the record's file.
async fn download(wire: &Wire<'_>, record: &Record, staged: &mut File, bar: &ProgressBar) -> Result<(), Refusal> {
    staged.set_len(0).and_then(|()| staged.rewind()).context("cannot write the download")?;
    bar.reset();
    let sink = Sink { file: staged, hasher: Sha256::new(), left: record.size, disk: None, bar };
    let sink = if let Some(response) = wire.file(record, true).await? {
        // What does not compress grows by far less than a hundredth.
        let limit = record.size + record.size / 100 + (64 << 10);
        // Several members are one file (RFC 1952): a server may compress a large one in pieces.
        let mut decoder = MultiGzDecoder::new(sink);
        let written = stream(wire, response, limit, &mut decoder).await?;
        // Own trouble first: a full disk is no reason to accuse anybody.
        decoder.get_mut().own_trouble()?;
        written.and_then(|()| decoder.finish()).map_err(|error| not_the_file(wire, record, &error))?
    } else if let Some(response) = wire.file(record, false).await? {
        let mut sink = sink;
        let written = stream(wire, response, record.size, &mut sink).await?;
        sink.own_trouble()?;
        written.map_err(|error| not_the_file(wire, record, &error))?;
        sink
    } else {
        return Err(Refusal::Failed(anyhow!("{} has the record but not the file", wire.name)));
    };
    if sink.left > 0 {
        let missing = sink.left;
        return Err(not_the_file(wire, record, &format!("{missing} bytes are missing")));
    }
    let sum = Sum::of_sha256(&sink.hasher.finalize().into());
    if sum != record.sum {
        return Err(not_the_file(wire, record, &format!("its sum is {sum}")));
    }
    Ok(())
}

/// Passes a body on. The outer error is the connection's, the inner one what the writer made of the bytes.
async fn stream(
    wire: &Wire<'_>,
    mut response: Response,
    limit: u64,
    to: &mut impl Write,
) -> anyhow::Result<io::Result<()>> {
    let mut left = limit;
    loop {
        let chunk = wire.in_time(response.chunk()).await?;
        let Some(chunk) = chunk.with_context(|| format!("the download from {} broke off", wire.name))? else {
            return Ok(Ok(()));
        };
        let written = match left.checked_sub(chunk.len() as u64) {
            None => Err(io::Error::other("it is longer than the record says")),
            Some(rest) => {
                left = rest;
                to.write_all(&chunk)
            }
        };
        if written.is_err() {
            return Ok(written);
        }
    }
}

fn not_the_file(wire: &Wire<'_>, record: &Record, why: &dyn std::fmt::Display) -> Refusal {
    let Record { spec, size, sum } = record;
    Refusal::Tampering(format!(
        "what {} sent is not the file of {size} bytes with the sum {sum} that the log has for {spec}: {why}",
        wire.name
    ))
}

/// Where the uncompressed bytes go: counted and hashed on their way to the file.
struct Sink<'a> {
    file: &'a mut File,
    hasher: Sha256,
    /// Bytes that are still to come.
    left: u64,
    /// What the disk said, kept apart from faults of the bytes.
    disk: Option<io::Error>,
    bar: &'a ProgressBar,
}

impl Sink<'_> {
    fn own_trouble(&mut self) -> anyhow::Result<()> {
        self.disk.take().map_or(Ok(()), |error| Err(error).context("cannot write the download"))
    }
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = self.left.checked_sub(bytes.len() as u64);
        self.left = left.ok_or_else(|| io::Error::other("it is longer than the record says"))?;
        if let Err(error) = self.file.write_all(bytes) {
            self.disk = Some(error);
            return Err(io::Error::other("the disk refused it"));
        }
        self.hasher.update(bytes);
        self.bar.inc(bytes.len() as u64);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
