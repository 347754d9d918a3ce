//! The text about modules and settings, line by line, as `runtime/debug.ParseBuildInfo` reads it.
//!
//! ```text
//! path  example.com/m/cmd/x
//! mod   example.com/m  v1.0.0  h1:…
//! dep   example.com/a  v1.2.0  h1:…
//! =>    example.com/b  v1.2.1  h1:…
//! build -trimpath=true
//! ```
//!
//! with tabs between the columns. Lines of another beginning are passed over, as is a last line without its newline.

use anyhow::{Context as _, bail, ensure};

use super::{BuildInfo, Module};

/// Modules and settings that a text may have.
const LINES_LIMIT: usize = 20_000;

/// Reads a text. Bytes that are no UTF-8 become U+FFFD.
pub(super) fn parse(text: &[u8]) -> anyhow::Result<BuildInfo> {
    let mut info = BuildInfo::default();
    // What a replacement is for.
    let mut last = Last::None;
    for (number, line) in (1..).zip(text.split_inclusive(|byte| *byte == b'\n')) {
        let Some(line) = line.strip_suffix(b"\n") else {
            break;
        };
        ensure!(number <= LINES_LIMIT, "more than {LINES_LIMIT} lines");
        take(&mut info, &mut last, line).with_context(|| format!("line {number}"))?;
    }
    Ok(info)
}

enum Last {
    None,
    Main,
    Dep,
}

fn take(info: &mut BuildInfo, last: &mut Last, line: &[u8]) -> anyhow::Result<()> {
    let columns = |rest: &[u8]| rest.split(|byte| *byte == b'\t').map(lossy).collect::<Vec<_>>();
    if let Some(rest) = line.strip_prefix(b"path\t") {
        info.path = lossy(rest);
    } else if let Some(rest) = line.strip_prefix(b"mod\t") {
        info.main = Some(module(columns(rest))?);
        *last = Last::Main;
    } else if let Some(rest) = line.strip_prefix(b"dep\t") {
        info.deps.push(module(columns(rest))?);
        *last = Last::Dep;
    } else if let Some(rest) = line.strip_prefix(b"=>\t") {
        let columns = columns(rest);
        ensure!(columns.len() == 3, "a replacement of {} columns, not 3", columns.len());
        let replaced = match last {
            Last::None => None,
            Last::Main => info.main.as_mut(),
            Last::Dep => info.deps.last_mut(),
        };
        replaced.context("a replacement of no module")?.replace = Some(Box::new(module(columns)?));
        *last = Last::None;
    } else if let Some(rest) = line.strip_prefix(b"build\t") {
        info.settings.push(setting(rest)?);
    }
    Ok(())
}

fn module(columns: Vec<String>) -> anyhow::Result<Module> {
    let count = columns.len();
    let mut columns = columns.into_iter();
    match (count, columns.next(), columns.next()) {
        (2 | 3, Some(path), Some(version)) => {
            Ok(Module { path, version, sum: columns.next().unwrap_or_default(), replace: None })
        }
        _ => bail!("a module of {count} columns, not 2 or 3"),
    }
}

fn setting(text: &[u8]) -> anyhow::Result<(String, String)> {
    let (key, value) = match text.first() {
        None => bail!("a setting that is empty"),
        Some(b'=') => bail!("a setting without a name"),
        Some(b'"' | b'`') => {
            let (key, used) = unquote(text).context("a name that is not quoted well")?;
            let value = text[used..].strip_prefix(b"=").context("a quoted name without = after it")?;
            (key, value)
        }
        Some(_) => {
            let at = text.iter().position(|byte| *byte == b'=').context("a setting without =")?;
            ensure!(!text[..at].iter().any(needs_quotes), "a name that should be quoted");
            (text[..at].to_vec(), &text[at + 1..])
        }
    };
    let value = match value.first() {
        Some(b'"' | b'`') => match unquote(value) {
            Some((unquoted, used)) if used == value.len() => unquoted,
            _ => bail!("a value that is not quoted well"),
        },
        _ => {
            ensure!(!value.iter().any(needs_quotes), "a value that should be quoted");
            value.to_vec()
        }
    };
    Ok((lossy(&key), lossy(&value)))
}

fn needs_quotes(byte: &u8) -> bool {
    b" \t\r\n\"`".contains(byte)
}

/// The string literal that the text begins with, as Go's `strconv.Unquote` reads it, and its length with quotes.
fn unquote(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    if text.first() == Some(&b'`') {
        let end = text[1..].iter().position(|byte| *byte == b'`')? + 1;
        let raw = text[1..end].iter().copied().filter(|byte| *byte != b'\r').collect();
        return Some((raw, end + 1));
    }
    let mut unquoted = Vec::new();
    let mut at = 1;
    loop {
        match *text.get(at)? {
            b'"' => return Some((unquoted, at + 1)),
            b'\n' => return None,
            b'\\' => at += 1 + escape(&text[at + 1..], &mut unquoted)?,
            byte => {
                unquoted.push(byte);
                at += 1;
            }
        }
    }
}

/// Adds what stands for the bytes after a backslash; returns how many those are.
fn escape(text: &[u8], to: &mut Vec<u8>) -> Option<usize> {
    let simple = b"a\x07b\x08f\x0cn\nr\rt\tv\x0b\\\\\"\"";
    let first = *text.first()?;
    if let Some([_, byte]) = simple.as_chunks::<2>().0.iter().find(|[letter, _]| *letter == first) {
        to.push(*byte);
        return Some(1);
    }
    let (digits, radix) = match first {
        b'x' => (text.get(1..3)?, 16),
        b'u' => (text.get(1..5)?, 16),
        b'U' => (text.get(1..9)?, 16),
        b'0'..=b'7' => (text.get(..3)?, 8),
        _ => return None,
    };
    let value = digits
        .iter()
        .try_fold(0, |value: u32, digit| Some(value.checked_mul(radix)? + char::from(*digit).to_digit(radix)?))?;
    if matches!(first, b'u' | b'U') {
        to.extend_from_slice(char::from_u32(value)?.encode_utf8(&mut [0; 4]).as_bytes());
    } else {
        to.push(u8::try_from(value).ok()?);
    }
    Some(digits.len() + usize::from(radix == 16))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
