//! `sumpeer man`: the manual page.

use std::io::{self, Write};

use super::Exit;

/// Prints the manual page, for `man -l -`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Prints the page of `command`, the whole program's, and of each command below it to standard output.
///
/// # Errors
///
/// If standard output takes no more.
pub fn run(_args: &Args, command: clap::Command) -> anyhow::Result<Exit> {
    io::stdout().lock().write_all(&page(command)?)?;
    Ok(Exit::Ok)
}

/// One page for all: the program's, then the options of each command.
fn page(mut command: clap::Command) -> io::Result<Vec<u8>> {
    command.build();
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    for below in command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help") {
        let man = clap_mangen::Man::new(below.clone());
        writeln!(page, ".SH \"{}\"", below.get_bin_name().unwrap_or(below.get_name()).to_uppercase())?;
        man.render_description_section(&mut page)?;
        man.render_synopsis_section(&mut page)?;
        man.render_options_section(&mut page)?;
        if below.has_subcommands() {
            man.render_subcommands_section(&mut page)?;
        }
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_stands_on_the_page() {
        let below = |name: &'static str| {
            clap::Command::new(name).about(format!("Does {name}")).arg(clap::Arg::new("x").long(name))
        };
        let whole = clap::Command::new("sumpeer").subcommand(below("alpha")).subcommand(below("beta"));
        let page = String::from_utf8(page(whole).expect("made")).expect("UTF-8");
        for part in [".SH \"SUMPEER ALPHA\"", "Does alpha", "\\-\\-alpha", ".SH \"SUMPEER BETA\"", "\\-\\-beta"] {
            assert!(page.contains(part), "{part} is in\n{page}");
        }
    }
}
