//! `sumpeer completions`: a script that completes the program's arguments in a shell.

use std::io::{self, Write};

use clap_complete::Shell;

use super::Exit;

/// Prints a completion script for a shell.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// Prints the script for `command`, the whole program's, to standard output.
///
/// # Errors
///
/// If standard output takes no more.
pub fn run(args: &Args, command: clap::Command) -> anyhow::Result<Exit> {
    io::stdout().lock().write_all(&script(args.shell, command))?;
    Ok(Exit::Ok)
}

/// The script. The generator panics where it cannot write, so it writes to memory.
fn script(shell: Shell, mut command: clap::Command) -> Vec<u8> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    script
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[derive(clap::Parser)]
    struct Whole {
        #[command(flatten)]
        _args: Args,
    }

    #[test]
    fn every_shell_has_a_script() {
        use clap::ValueEnum;

        for shell in Shell::value_variants() {
            let script = script(*shell, Whole::command().name("sumpeer"));
            let script = String::from_utf8(script).expect("UTF-8");
            assert!(script.contains("sumpeer") && script.contains("help"), "{shell}: {script}");
        }
    }
}
