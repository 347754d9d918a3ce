//! TOML to settings, finding as many errors as there are and not only the first.

use std::collections::BTreeMap;

use super::Config;

/// So many errors are told; a file with more is some other kind of file.
const MAX_ERRORS: usize = 100;

/// Reads settings from TOML. With errors the settings are those of the rest of the file, or the defaults.
///
/// The reader stops at its first error, which says the line and points at the place. To find the others,
/// the lines of that error are taken out and the rest is read again.
pub(super) fn parse(text: &str) -> (Config, Vec<String>) {
    let mut left = text.to_owned();
    // By line, since the reader does not meet them in the order of the file.
    let mut errors = BTreeMap::new();
    while errors.len() < MAX_ERRORS {
        let error = match toml::from_str(&left) {
            Ok(config) => return (config, errors.into_values().collect()),
            Err(error) => error,
        };
        let lines = lines_of(&left, error.span().unwrap_or_default());
        let broken = left.parse::<toml::Table>().is_err();
        // Lines that we took out may leave a text that is no TOML: that is not the author's fault.
        if !broken || errors.is_empty() {
            let number = left[..lines.start].matches('\n').count();
            errors.insert(number, error.to_string().trim_end().to_owned());
        }
        // Without its header, what stands in a table would belong to the one before.
        if broken || lines.is_empty() || left[lines.clone()].trim_start().starts_with('[') {
            break;
        }
        blank(&mut left, lines);
    }
    (Config::default(), errors.into_values().collect())
}

/// The whole lines that hold a part of a text.
fn lines_of(text: &str, part: std::ops::Range<usize>) -> std::ops::Range<usize> {
    let (start, end) = (part.start.min(text.len()), part.end.clamp(part.start, text.len()));
    let start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[end..].find('\n').map_or(text.len(), |newline| end + newline);
    start..end
}

/// Takes lines out and leaves empty ones, so that later errors name the right line.
fn blank(text: &mut String, lines: std::ops::Range<usize>) {
    let newlines = text[lines.clone()].matches('\n').count();
    text.replace_range(lines, &"\n".repeat(newlines));
}
