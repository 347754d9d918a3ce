//! How fast a log's growth reaches many readers, and what readers cost.
//!
//! `cargo bench --bench streams -- [READERS] [ENTRIES] [BURSTS] [STALLED]`, by default 5000 readers, 20 bursts of 1000
//! entries, then 100 readers that stop reading. It needs as many open files as readers, in each of two processes:
//! this program starts itself again as the server, which is the node's own router, server loop and store. All of it
//! stays on the loopback address. Readers read bytes and count frames of entries; in the end each must have
//! every entry exactly once.
//!
//! It prints deliveries (entries times readers) a second for each burst, from the first append to the
//! last entry at the last reader, what an open stream adds to the server's resident memory, and what a stalled one costs
//! in the process and in the kernel's socket buffers (of all of the machine: run nothing else), and
//! how long until it is gone.

#[path = "streams/client.rs"]
mod client;
mod made;
#[path = "streams/server.rs"]
mod server;

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

/// The argument with which this program is the server.
const SERVER: &str = "--server";
/// Entries that the log has before readers come: more than a stalled reader's buffers hold.
const BEFORE: u64 = 5_000;
/// Entries after which the caches of the store are full.
const WARM_ENTRIES: u64 = 60_000;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == SERVER) {
        return server::run();
    }
    let mut numbers = args.iter().filter_map(|arg| arg.parse().ok());
    let mut number = |default: u64| numbers.next().unwrap_or(default);
    let (readers, entries, bursts, stalled) = (number(5000), number(1000), number(20), number(100));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(fan_out(readers, entries, bursts))?;
    if stalled > 0 {
        runtime.block_on(stall(stalled))?;
    }
    Ok(())
}

/// Many readers and a log that grows in bursts.
#[expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
async fn fan_out(readers: u64, entries: u64, bursts: u64) -> anyhow::Result<()> {
    let mut server = Server::start()?;
    // What the first request and the growth of the log bring about is not a stream's: the store caches pages until it
    // has as many as it may.
    let first = client::Readers::connect(server.address, 1).await?;
    let growths = WARM_ENTRIES / entries.max(1);
    for growth in 1..=growths {
        server.send(&format!("grow {entries}"))?;
        first.all_have(growth * entries).await?;
        server.answer()?;
    }
    first.close(growths * entries)?;
    server.until(0)?;
    let before = server.state()?;
    let clients = client::Readers::connect(server.address, readers).await?;
    let idle = server.until(readers)?;
    println!("{readers} readers: {:.1} kB resident each, idle", idle.each(&before, readers));
    let mut rates = Vec::new();
    for burst in 1..=bursts {
        let began = Instant::now();
        server.send(&format!("grow {entries}"))?;
        clients.all_have(burst * entries).await?;
        let took = began.elapsed().as_secs_f64();
        rates.push((readers * entries) as f64 / took);
        println!(
            "burst {burst:>3}: {entries} entries to {readers} in {took:.3} s, {:.0} a second",
            rates[rates.len() - 1]
        );
        server.answer()?;
    }
    rates.sort_by(f64::total_cmp);
    let after = server.state()?;
    println!("a second: {:.0} least, {:.0} median", rates[0], rates[rates.len() / 2]);
    println!("{readers} readers: {:.1} kB resident each, after the bursts", after.each(&before, readers));
    clients.close(bursts * entries)
}

/// Readers that ask for everything and take nothing.
#[expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
async fn stall(stalled: u64) -> anyhow::Result<()> {
    let mut server = Server::start()?;
    client::Readers::connect(server.address, 1).await?;
    server.until(0)?;
    let (before, kernel_before) = (server.state()?, kernel_kb()?);
    let began = Instant::now();
    let clients = client::stall(server.address, stalled).await?;
    let mut worst: (f64, f64) = (0.0, 0.0);
    loop {
        let now = server.state()?;
        let kernel = (kernel_kb()? - kernel_before) / client::count(stalled);
        worst = (worst.0.max(now.each(&before, stalled)), worst.1.max(kernel));
        if now.streams == 0 && began.elapsed() > Duration::from_secs(1) {
            break;
        }
        ensure!(began.elapsed() < Duration::from_secs(120), "{} stalled readers are still there", now.streams);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!(
        "{stalled} stalled readers: at most {:.1} kB resident and {:.1} kB in the kernel each, gone after {:.1} s",
        worst.0,
        worst.1,
        began.elapsed().as_secs_f64(),
    );
    drop(clients);
    Ok(())
}

/// Pages of all TCP buffers of the machine, in kB.
fn kernel_kb() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/net/sockstat")?;
    let line = text.lines().find(|line| line.starts_with("TCP:")).context("no line TCP")?;
    let pages: f64 = line.rsplit(' ').next().context("no number")?.parse()?;
    Ok(pages * 4.0)
}

/// The server process; it ends with this value.
struct Server {
    process: Child,
    commands: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
    address: SocketAddr,
}

/// What the server says of itself.
struct State {
    streams: u64,
    resident_kb: f64,
}

impl State {
    /// What each of `count` added, in kB.
    fn each(&self, before: &State, count: u64) -> f64 {
        (self.resident_kb - before.resident_kb) / client::count(count)
    }
}

impl Server {
    fn start() -> anyhow::Result<Server> {
        let mut process =
            Command::new(std::env::current_exe()?).arg(SERVER).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let commands = process.stdin.take();
        let stdout = process.stdout.take().context("piped")?;
        let mut answers = BufReader::new(stdout).lines();
        let address = answers.next().context("the server has ended")??.parse()?;
        Ok(Server { process, commands, answers, address })
    }

    fn send(&mut self, command: &str) -> anyhow::Result<()> {
        let commands = self.commands.as_mut().context("open until it ends")?;
        Ok(writeln!(commands, "{command}")?)
    }

    fn answer(&mut self) -> anyhow::Result<String> {
        Ok(self.answers.next().context("the server has ended")??)
    }

    fn state(&mut self) -> anyhow::Result<State> {
        self.send("state")?;
        let answer = self.answer()?;
        let (streams, resident) = answer.split_once(' ').context("two numbers")?;
        Ok(State { streams: streams.parse()?, resident_kb: resident.parse()? })
    }

    /// Waits until so many streams are open.
    fn until(&mut self, streams: u64) -> anyhow::Result<State> {
        let began = Instant::now();
        loop {
            let state = self.state()?;
            if state.streams == streams {
                return Ok(state);
            }
            ensure!(began.elapsed() < Duration::from_secs(30), "{} streams instead of {streams}", state.streams);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its input ends, and so does it.
        self.commands = None;
        let _ = self.process.wait();
    }
}
