//! `sumpeer keygen`: a new key pair, in the text forms that Go's notes use.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Context;
use rand::TryRng;
use rand::rngs::SysRng;
use zeroize::Zeroizing;

use super::Exit;
use crate::node;
use crate::tlog::SignerKey;

/// Makes a key pair: prints the signer key and the verifier key.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The key's name: the node's host name, by custom
    name: String,
    /// Write the signer key to this new file, readable by you alone, and print the verifier key only
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Makes the key pair.
///
/// # Errors
///
/// If the name cannot name a key, or the file exists or cannot be written.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    make(args, &mut io::stdout().lock())?;
    Ok(Exit::Ok)
}

/// Makes the key pair and writes what is to be seen of it to `talk`.
fn make(args: &Args, talk: &mut impl Write) -> anyhow::Result<()> {
    let mut seed = Zeroizing::new([0; 32]);
    SysRng.try_fill_bytes(seed.as_mut_slice()).context("the system gives no random numbers")?;
    let key =
        SignerKey::generate(&args.name, *seed).with_context(|| format!("{:?} cannot be a key's name", args.name))?;
    match &args.out {
        Some(file) => node::write_key(file, &key)?,
        None => writeln!(talk, "{}", key.to_text().as_str())?,
    }
    writeln!(talk, "{}", key.verifier())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_file_is_private_and_never_overwritten() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("key");
        let args = Args { name: "sums.example".to_owned(), out: Some(file.clone()) };
        let mut talk = Vec::new();
        make(&args, &mut talk).expect("made");
        assert_eq!(file.metadata().expect("there").permissions().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&file).expect("readable");
        let key: SignerKey = text.strip_suffix('\n').expect("one line").parse().expect("a key");
        assert_eq!(key.name(), "sums.example");
        assert_eq!(String::from_utf8(talk).expect("UTF-8"), format!("{}\n", key.verifier()));

        let error = make(&args, &mut Vec::new()).expect_err("it is there").to_string();
        assert!(error.contains("exists"), "{error}");
        assert_eq!(std::fs::read_to_string(&file).expect("readable"), text);
    }

    #[test]
    fn without_a_file_both_keys_are_printed_and_fit() {
        let mut talk = Vec::new();
        make(&Args { name: "sums.example".to_owned(), out: None }, &mut talk).expect("made");
        let talk = String::from_utf8(talk).expect("UTF-8");
        let (signer, verifier) = talk.trim_end().split_once('\n').expect("two lines");
        let signer: SignerKey = signer.parse().expect("a signer key");
        assert_eq!(signer.verifier().to_string(), verifier);
    }

    #[test]
    fn names_that_no_key_can_have_are_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        for name in ["", "a b", "a+b"] {
            let file = dir.path().join("key");
            let args = Args { name: name.to_owned(), out: Some(file.clone()) };
            assert!(make(&args, &mut Vec::new()).is_err() && !file.exists(), "{name}");
        }
    }
}
