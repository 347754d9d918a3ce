//! The last stage: takes limits and walls upon itself, then becomes the go command.
//!
//! Behind bubblewrap the system call filter is a second wall; with landlock it and the rules here
//! are all there is.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, NetPort, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetStatus, Scope, path_beneath_rules,
};
use rustix::process::{Resource, Rlimit, Signal};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as ArgLen, SeccompCmpOp as Op, SeccompCondition as Condition,
    SeccompFilter, SeccompRule,
};

use crate::builder::sandbox::{Order, Wall};

/// Open files of one process. The linker and the compiler hold tens, the go command some hundreds.
const OPEN_FILES: u64 = 4096;

/// What programs and their loader read of a system.
const SYSTEM: &[&str] = &["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/nix/store"];

/// Parts of /proc and /sys that the Go runtime reads.
const RUNTIME: &[&str] = &["/proc/self", "/sys/kernel/mm/transparent_hugepage", "/sys/devices/system/cpu"];

const DEVICES: &[&str] = &["/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"];

/// Returns only with an error: else this process is the go command.
pub(super) fn run(order: &Order) -> anyhow::Result<u8> {
    // The parent is the forwarder: without it a build could not end well, so it need not go on.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).context("cannot tie a build to its parent")?;
    limit(order)?;
    let mut command = Command::new(order.inside.go());
    command.args(&order.args).env_clear().envs(order.env.iter().cloned());
    if let Some(port) = order.port {
        command.env("GOPROXY", format!("http://127.0.0.1:{port}"));
    }
    match order.wall {
        Wall::Landlock => {
            landlock(order)?;
            filter()?;
        }
        Wall::Bwrap { .. } => filter()?,
        Wall::None => {}
    }
    let error = command.exec();
    Err(error).with_context(|| format!("cannot run {}", order.inside.go().display()))
}

fn limit(order: &Order) -> anyhow::Result<()> {
    let set = |resource, bytes: u64| {
        let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
        rustix::process::setrlimit(resource, limit).context("cannot set a limit")
    };
    set(Resource::Core, 0)?;
    set(Resource::Fsize, order.file_limit)?;
    // A lower limit that we were given cannot be raised, and need not be.
    let files = rustix::process::getrlimit(Resource::Nofile).maximum.unwrap_or(OPEN_FILES);
    set(Resource::Nofile, files.min(OPEN_FILES))?;
    match order.data_limit {
        Some(bytes) => set(Resource::Data, bytes),
        None => Ok(()),
    }
}

/// Files: what the invariant of builds lists. TCP: to the forwarder's port only.
fn landlock(order: &Order) -> anyhow::Result<()> {
    // The oldest with rules for TCP; what newer kernels add is taken where it is there.
    const NEEDED: ABI = ABI::V4;
    let read = AccessFs::from_read(NEEDED);
    let all = AccessFs::from_all(NEEDED);
    let rooms = &order.inside;
    let readable: Vec<&Path> = [SYSTEM, RUNTIME]
        .concat()
        .into_iter()
        .map(Path::new)
        .chain([rooms.toolchain.as_path()])
        .chain(rooms.seed.as_deref())
        .collect();
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(all)
        .and_then(|rules| rules.handle_access(AccessNet::from_all(NEEDED)))
        .context("this kernel's landlock is too old")?
        .set_compatibility(CompatLevel::BestEffort)
        .scope(Scope::from_all(ABI::V6))
        .and_then(Ruleset::create)
        .context("landlock does not work")?
        .add_rules(path_beneath_rules(readable, read))
        .and_then(|rules| rules.add_rules(path_beneath_rules(DEVICES, read | AccessFs::WriteFile)))
        .and_then(|rules| rules.add_rules(path_beneath_rules([&rooms.home], all)))
        .context("landlock refuses a rule for files")?;
    if let Some(port) = order.port {
        rules = rules
            .add_rule(NetPort::new(port, AccessNet::ConnectTcp))
            .context("landlock refuses a rule for the network")?;
    }
    let status = rules.restrict_self().context("landlock does not work")?;
    if status.ruleset == RulesetStatus::NotEnforced {
        bail!("landlock is not enforced");
    }
    Ok(())
}

/// Forbids system calls that a compiler has no use for: they fail with EPERM.
fn filter() -> anyhow::Result<()> {
    // The flags of clone3 are behind a pointer, where a filter cannot look. As if the kernel had no
    // such call, because then, and only then, libraries fall back to clone.
    apply([(libc::SYS_clone3, vec![])].into(), libc::ENOSYS)?;
    apply(rules()?, libc::EPERM)
}

fn apply(rules: BTreeMap<i64, Vec<SeccompRule>>, error: i32) -> anyhow::Result<()> {
    let arch = std::env::consts::ARCH.try_into().context("no system call filter for this processor")?;
    let deny = SeccompAction::Errno(error.unsigned_abs());
    let filter =
        SeccompFilter::new(rules, SeccompAction::Allow, deny, arch).context("cannot make the system call filter")?;
    let program: BpfProgram = filter.try_into().context("cannot make the system call filter")?;
    seccompiler::apply_filter(&program).context("cannot set the system call filter")
}

/// What the filter forbids: system call number → conditions, any of which suffices; none means always.
fn rules() -> anyhow::Result<BTreeMap<i64, Vec<SeccompRule>>> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = FORBIDDEN.iter().map(|&call| (call, vec![])).collect();
    // Only TCP: no unix sockets (the host's daemons listen on them), no datagrams, no raw packets,
    // no netlink, none of the many families that kernels have had holes in.
    let family = |op, family: i32| Condition::new(0, ArgLen::Dword, op, u64::from(family.unsigned_abs()));
    let stream = |op, value: i32| Condition::new(1, ArgLen::Dword, op, u64::from(value.unsigned_abs()));
    // The type's low bits, without SOCK_NONBLOCK and SOCK_CLOEXEC.
    const TYPE: u64 = 0xf;
    rules.insert(
        libc::SYS_socket,
        vec![
            SeccompRule::new(vec![family(Op::Ne, libc::AF_INET)?, family(Op::Ne, libc::AF_INET6)?])?,
            SeccompRule::new(vec![stream(Op::MaskedEq(TYPE), libc::SOCK_DGRAM)?])?,
            SeccompRule::new(vec![stream(Op::MaskedEq(TYPE), libc::SOCK_RAW)?])?,
            SeccompRule::new(vec![stream(Op::MaskedEq(TYPE), libc::SOCK_SEQPACKET)?])?,
        ],
    );
    // New namespaces give a process powers over its own, and so reach code that only root could.
    let namespace = |flag: i32| {
        let flag = u64::from(flag.unsigned_abs());
        SeccompRule::new(vec![Condition::new(0, ArgLen::Qword, Op::MaskedEq(flag), flag)?])
    };
    let namespaces = [libc::CLONE_NEWUSER, libc::CLONE_NEWNS, libc::CLONE_NEWNET, libc::CLONE_NEWPID];
    rules.insert(libc::SYS_clone, namespaces.into_iter().map(namespace).collect::<Result<_, _>>()?);
    Ok(rules)
}

/// Forbidden whatever the arguments.
const FORBIDDEN: &[i64] = &[
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Leaving the process group, which is what gets killed.
    libc::SYS_setsid,
    libc::SYS_setpgid,
    // Mounts and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_fsconfig,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    // The kernel itself.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_personality,
    libc::SYS_fanotify_init,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
];
