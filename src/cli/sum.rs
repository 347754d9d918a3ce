//! `sumpeer sum`: sums of files, as records name them.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::Exit;
use crate::model::Sum;

/// Prints the sum of each file, as records and result pages have it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files to read, uncompressed; `-` or none is standard input
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print a JSON object a line: file, size, sum
    #[arg(long)]
    json: bool,
}

/// Prints one line a file to standard output. A file that cannot be read is told on standard error and the
/// others are read all the same.
///
/// # Errors
///
/// If standard output takes no more.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let stdin = [PathBuf::from("-")];
    let files = if args.files.is_empty() { &stdin[..] } else { &args.files };
    let mut exit = Exit::Ok;
    for file in files {
        match sum(file) {
            Ok((size, sum)) => print(&mut io::stdout().lock(), file, size, sum, args.json)?,
            Err(error) => {
                eprintln!("sumpeer: cannot read {}: {error}", file.display());
                exit = Exit::Failure;
            }
        }
    }
    Ok(exit)
}

#[derive(Serialize)]
struct Line<'a> {
    file: &'a str,
    size: u64,
    sum: Sum,
}

fn print(to: &mut impl Write, file: &Path, size: u64, sum: Sum, json: bool) -> io::Result<()> {
    if json {
        let line = Line { file: &file.to_string_lossy(), size, sum };
        return writeln!(to, "{}", serde_json::to_string(&line)?);
    }
    writeln!(to, "{sum}  {}", file.display())
}

/// The size and sum of a file, or of standard input if it is called `-`.
fn sum(file: &Path) -> io::Result<(u64, Sum)> {
    if file == Path::new("-") { read(io::stdin().lock()) } else { read(File::open(file)?) }
}

/// The size and sum of what is read.
pub(super) fn read(mut from: impl Read) -> io::Result<(u64, Sum)> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut size = 0;
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok((size, Sum::of_sha256(&hash.finalize().into()))),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hash.update(&buffer[..count]);
        size += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_the_first_20_bytes_of_sha256() {
        let (size, sum) = read(&b"abc"[..]).expect("readable");
        assert_eq!((size, sum.to_string().as_str()), (3, "0ungWv48Bz-pBQUDeXa4iI7ADYaM"));
        let many = vec![7; 200_000];
        let whole: [u8; 32] = Sha256::digest(&many).into();
        assert_eq!(read(&many[..]).expect("readable"), (200_000, Sum::of_sha256(&whole)));
    }

    #[test]
    fn lines_are_text_or_json() {
        let line = |json| {
            let mut line = Vec::new();
            let (size, sum) = read(&b"abc"[..]).expect("readable");
            print(&mut line, Path::new("a b\"c"), size, sum, json).expect("written");
            String::from_utf8(line).expect("UTF-8")
        };
        assert_eq!(line(false), "0ungWv48Bz-pBQUDeXa4iI7ADYaM  a b\"c\n");
        let json: serde_json::Value = serde_json::from_str(&line(true)).expect("JSON");
        let wanted = serde_json::json!({"file": "a b\"c", "size": 3, "sum": "0ungWv48Bz-pBQUDeXa4iI7ADYaM"});
        assert_eq!(json, wanted);
    }
}
