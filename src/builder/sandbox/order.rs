//! What the node tells its helper processes: one value, as JSON, to each stage in turn.
//!
//! Out of scope: carrying it out ([`crate::cli`]).

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Name of the hidden subcommand that watches over one run; the order comes as a line on stdin.
pub const SUPERVISE: &str = "helper-supervise";
/// … that forwards to the module proxy from within bubblewrap; the order is its argument.
pub const INSIDE: &str = "helper-inside";
/// … that takes limits and walls upon itself and becomes the go command; the order is its argument.
pub const CONFINE: &str = "helper-confine";
/// … that checks from within whether the walls stand; arguments: a hidden file, the wall's name.
pub const PROBE: &str = "helper-probe";

/// The home in a file system of its own.
const FIXED_HOME: &str = "/build";

/// The seed in a file system of its own.
pub(super) const FIXED_SEED: &str = "/seed";

/// Where bubblewrap shows this program.
const HELPER: &str = "/helper";

/// System libraries that this program is linked to, where they exist.
const LIBRARIES: &[&str] = &["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/nix/store"];

/// Everything about one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    pub wall: Wall,
    /// This program, as the host names it.
    pub helper: PathBuf,
    pub host: Rooms,
    pub inside: Rooms,
    /// Arguments of the go command.
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    /// Bytes of data each process may have; none where a control group limits memory.
    pub data_limit: Option<u64>,
    /// Bytes of the largest file that may be written.
    pub file_limit: u64,
    /// The file to write our process id to, to be in the run's control group.
    pub cgroup: Option<PathBuf>,
    /// Where the forwarder listens on 127.0.0.1, once it does.
    pub port: Option<u16>,
}

/// What stands between a build and the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wall {
    Bwrap { program: PathBuf },
    Landlock,
    None,
}

/// The folders a go command uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rooms {
    /// The Go distribution, with `bin/go`. Read-only.
    pub toolchain: PathBuf,
    /// Build cache with the compiled standard library. Read-only.
    pub seed: Option<PathBuf>,
    /// All that may be written: the working folder, with `tmp` in it for temporary files.
    pub home: PathBuf,
    /// Unix socket of the module proxy; the only way out.
    pub socket: Option<PathBuf>,
}

impl Rooms {
    /// The same rooms at the paths they have in a file system of their own. Build logs and error
    /// texts then look alike on all nodes.
    pub fn fixed(&self) -> Rooms {
        Rooms {
            toolchain: PathBuf::from("/go"),
            seed: self.seed.as_ref().map(|_| PathBuf::from(FIXED_SEED)),
            home: PathBuf::from(FIXED_HOME),
            socket: self.socket.as_ref().map(|_| PathBuf::from("/proxy")),
        }
    }

    /// Whether these are the paths of a file system of their own.
    pub fn is_fixed(&self) -> bool {
        self.home == Path::new(FIXED_HOME)
    }

    /// The go command.
    pub fn go(&self) -> PathBuf {
        self.toolchain.join("bin/go")
    }
}

/// The arguments of bubblewrap for an order, up to and with the command of the first stage within.
pub fn bwrap_args(order: &Order, json: &str) -> Vec<OsString> {
    let mut args = words(&["--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"]);
    let mut bind = |how: &str, from: &Path, to: &Path| {
        args.extend([how.into(), from.into(), to.into()]);
    };
    for library in LIBRARIES {
        bind("--ro-bind-try", Path::new(library), Path::new(library));
    }
    let (host, inside) = (&order.host, &order.inside);
    bind("--ro-bind", &order.helper, Path::new(HELPER));
    bind("--ro-bind", &host.toolchain, &inside.toolchain);
    if let (Some(from), Some(to)) = (&host.seed, &inside.seed) {
        bind("--ro-bind", from, to);
    }
    bind("--bind", &host.home, &inside.home);
    // On disk instead of a tmpfs: go links there, and memory is for the compiler.
    bind("--bind", &host.home.join("tmp"), Path::new("/tmp"));
    if let (Some(from), Some(to)) = (&host.socket, &inside.socket) {
        bind("--ro-bind", from, to);
    }
    args.extend(words(&["--dev", "/dev", "--proc", "/proc", "--remount-ro", "/", "--chdir"]));
    args.push(inside.home.clone().into());
    args.extend(words(&["--", HELPER, INSIDE, json]));
    args
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> Order {
        let host = Rooms {
            toolchain: "/data/toolchains/go1.27.1".into(),
            seed: Some("/data/seeds/1".into()),
            home: "/data/homes/1".into(),
            socket: Some("/data/homes/1.sock".into()),
        };
        Order {
            wall: Wall::Bwrap { program: "/usr/bin/bwrap".into() },
            helper: "/usr/bin/sumpeer".into(),
            inside: host.fixed(),
            host,
            args: vec!["version".into()],
            env: vec![("HOME".into(), "/build".into())],
            data_limit: None,
            file_limit: 1,
            cgroup: None,
            port: None,
        }
    }

    #[test]
    fn only_the_home_is_writable() {
        let args: Vec<String> =
            bwrap_args(&order(), "{}").iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
        let writable: Vec<_> =
            args.windows(3).filter(|args| args[0] == "--bind").map(|args| args[1..].join(" ")).collect();
        assert_eq!(writable, ["/data/homes/1 /build", "/data/homes/1/tmp /tmp"]);
        let text = args.join(" ");
        for wanted in [
            "--unshare-all --die-with-parent --new-session --clearenv --cap-drop ALL",
            "--ro-bind /data/toolchains/go1.27.1 /go",
            "--ro-bind /data/seeds/1 /seed",
            "--ro-bind /data/homes/1.sock /proxy",
            "--remount-ro / --chdir /build -- /helper helper-inside {}",
        ] {
            assert!(text.contains(wanted), "{text} lacks {wanted}");
        }
        assert!(!text.contains("share-net"), "a build has no network: {text}");
    }

    #[test]
    fn an_order_survives_its_way() {
        let order = order();
        let line = serde_json::to_string(&order).unwrap();
        assert!(!line.contains('\n'), "an order is one line");
        let back: Order = serde_json::from_str(&line).unwrap();
        assert_eq!((back.host, back.inside, back.wall), (order.host, order.inside, order.wall));
    }
}
