//! `sumpeer config`: the example file, and a check of one's own.

use std::io::{self, Write};
use std::path::PathBuf;

use super::Exit;
use crate::config::{Config, EXAMPLE, Overrides};

/// Shows or checks configuration files.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print a file with every setting and its default
    Example,
    /// Tell everything that is wrong with a file
    Check {
        /// The file
        file: PathBuf,
    },
}

/// Prints the example to standard output, or what is wrong with a file to standard error.
///
/// # Errors
///
/// If standard output takes no more.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    match &args.command {
        Command::Example => {
            io::stdout().lock().write_all(EXAMPLE.as_bytes())?;
            Ok(Exit::Ok)
        }
        Command::Check { file } => {
            if let Err(errors) = Config::load(Some(file), Overrides::default()) {
                eprintln!("{errors}");
                return Ok(Exit::Failure);
            }
            eprintln!("{}: no errors", file.display());
            Ok(Exit::Ok)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_that_a_node_would_start_with_passes() {
        let check = |text: &str| {
            let file = tempfile::NamedTempFile::new().expect("a file");
            std::fs::write(file.path(), text).expect("written");
            run(&Args { command: Command::Check { file: file.path().to_owned() } }).expect("checked")
        };
        assert_eq!(check(EXAMPLE), Exit::Ok);
        assert_eq!(check("max-biulds = 3"), Exit::Failure);
        assert_eq!(check("watch = [\"filippo.io/age\"]"), Exit::Failure);
        let missing = Command::Check { file: "/no/such/file".into() };
        assert_eq!(run(&Args { command: missing }).expect("checked"), Exit::Failure);
    }
}
