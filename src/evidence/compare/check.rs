//! Comparisons that strangers wrote: taken only as this program writes them, and never longer.

use serde::Deserialize as _;
use serde_json::Value;

use super::{Comparison, TEXT_LIMIT_CHARS, paths, symbols};
use crate::evidence::buildinfo::{BuildInfo, Module};
use crate::evidence::image::Role;

/// Parts of two files: their sections, and three more of each.
const PARTS_LIMIT: usize = 2 * (256 + 3);
/// Modules, and settings, of a program that are written down and compared.
const INPUTS_LIMIT: usize = 4000;
/// Characters of each; a default GODEBUG has a thousand.
const INPUT_LIMIT_CHARS: usize = 4000;

/// Reads a comparison.
pub(super) fn read(value: &Value) -> Result<Comparison, String> {
    let comparison =
        Comparison::deserialize(value).map_err(|error| super::plain(&error.to_string(), TEXT_LIMIT_CHARS))?;
    // As texts: members have one order, and numbers one spelling.
    let [again, text] = [comparison.to_json().to_string(), value.to_string()];
    if again != text {
        return Err("it is not written as comparisons are".to_owned());
    }
    for binary in &comparison.binaries {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if binary.sha256.len() != 64 || !binary.sha256.bytes().all(digit) {
            return Err("a SHA-256 is not 64 hexadecimal digits".to_owned());
        }
        for text in [&binary.format, &binary.build_id, &binary.trouble].into_iter().flatten() {
            check_text(text)?;
        }
        binary.build_info.as_ref().map_or(Ok(()), check_info)?;
    }
    if comparison.sections.len() > PARTS_LIMIT {
        return Err(format!("it has more than {PARTS_LIMIT} parts"));
    }
    for part in &comparison.sections {
        check_text(&part.name)?;
        if !Role::ALL.iter().any(|role| role.as_str() == part.role) {
            return Err("a part has a role that there is not".to_owned());
        }
    }
    if let Some(found) = &comparison.symbols {
        if found.first.len() > symbols::NAMED {
            return Err(format!("it names more than {} symbols", symbols::NAMED));
        }
        found.first.iter().try_for_each(|pair| check_text(&pair.name))?;
    }
    if let Some(found) = &comparison.paths {
        if found.first.iter().any(|paths| paths.len() > paths::NAMED) {
            return Err(format!("it names more than {} paths", paths::NAMED));
        }
        found.first.iter().flatten().try_for_each(|path| check_text(path))?;
    }
    Ok(comparison)
}

/// Refuses what would not be shown as it is.
fn check_text(text: &str) -> Result<(), String> {
    if text == super::plain(text, TEXT_LIMIT_CHARS) {
        Ok(())
    } else {
        Err("a text is too long or hides something".to_owned())
    }
}

fn check_info(info: &BuildInfo) -> Result<(), String> {
    if *info == fit(info.clone()) { Ok(()) } else { Err("build information is too long or hides something".to_owned()) }
}

/// Build information as it is written down: a bounded number of texts that a terminal shows as they are.
pub(super) fn fit(mut info: BuildInfo) -> BuildInfo {
    let short = |text: &mut String| *text = super::plain(text, INPUT_LIMIT_CHARS);
    short(&mut info.go_version);
    short(&mut info.path);
    info.deps.truncate(INPUTS_LIMIT);
    info.settings.truncate(INPUTS_LIMIT);
    for module in info.main.iter_mut().chain(&mut info.deps) {
        fit_module(module);
        if let Some(replace) = &mut module.replace {
            fit_module(replace);
            replace.replace = None;
        }
    }
    for (key, value) in &mut info.settings {
        short(key);
        short(value);
    }
    info
}

fn fit_module(module: &mut Module) {
    for text in [&mut module.path, &mut module.version, &mut module.sum] {
        *text = super::plain(text, INPUT_LIMIT_CHARS);
    }
}
