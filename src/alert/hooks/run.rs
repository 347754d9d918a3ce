//! One run of one program: its environment, its time, its output, and its end with all that it has started.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::process::Command;
use tokio::time::timeout;

use crate::alert::message::{Message, Told};

/// How long the rest of a program's output may take once it has ended; what it started may keep the pipe open.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// What a program may use.
#[derive(Clone, Copy, Debug)]
pub struct HookLimits {
    /// Wall-clock time.
    pub time: Duration,
    /// Bytes kept of its output; the rest is read and dropped.
    pub output: usize,
}

impl Default for HookLimits {
    fn default() -> HookLimits {
        HookLimits { time: Duration::from_secs(120), output: 4096 }
    }
}

/// Runs the program `name` of a folder to its end. What it said, as one line.
///
/// Dropping the future kills it.
///
/// # Errors
/// It could not be started, did not end with status 0, or took too long.
pub(super) async fn run(
    folder: &Path,
    name: &str,
    told: &Told,
    evidence: &Path,
    limits: &HookLimits,
) -> Result<String, String> {
    let (reader, writer) = io::pipe().map_err(|error| format!("cannot make a pipe: {error}"))?;
    let copy = writer.try_clone().map_err(|error| format!("cannot make a pipe: {error}"))?;
    let mut command = Command::new(folder.join(name));
    command
        .current_dir(folder)
        .envs(variables(told))
        .env("SUMPEER_EVIDENCE", evidence)
        .stdin(Stdio::null())
        // One pipe for both, so that lines stay in the order they were written in.
        .stdout(writer)
        .stderr(copy)
        .process_group(0)
        .kill_on_drop(true);
    let spawned = command.spawn();
    // Our copies of its end of the pipe go with it, or the end of the output would never be seen.
    drop(command);
    let mut child = spawned.map_err(|error| format!("it cannot be started: {error}"))?;
    // Before the child's own drop, which it is declared after: a process that is not reaped keeps its number.
    let group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
    let mut output = pipe::Receiver::from_owned_fd(reader.into()).map_err(|error| format!("cannot listen: {error}"))?;
    let mut said = Vec::new();
    let mut is_silent = false;
    let ended = {
        let mut listening = Box::pin(listen(&mut output, &mut said, limits.output));
        let ended = timeout(limits.time, async {
            tokio::select! {
                status = child.wait() => status,
                // All ends of the pipe are closed; it may go on in silence.
                () = &mut listening => {
                    is_silent = true;
                    child.wait().await
                }
            }
        })
        .await;
        drop(group);
        // Nothing more will be written; what it said last may still be in the pipe.
        if !is_silent {
            let _ = timeout(LAST_WORDS, listening).await;
        }
        ended
    };
    let said = String::from_utf8_lossy(&said);
    let said: String = said.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let after = if said.is_empty() { String::new() } else { format!(": {said}") };
    match ended {
        Err(_) => Err(format!("it was killed after {:?}{after}", limits.time)),
        Ok(Err(error)) => Err(format!("it cannot be waited for: {error}")),
        Ok(Ok(status)) if status.success() => Ok(said),
        Ok(Ok(status)) => Err(format!("it ended with {status}{after}")),
    }
}

/// Kills what a program has started, however its run ends.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // In most cases nobody is left.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Reads all that comes and keeps the beginning.
async fn listen(output: &mut pipe::Receiver, said: &mut Vec<u8>, limit: usize) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read @ 1..) = output.read(&mut buffer).await {
        said.extend_from_slice(&buffer[..read.min(limit.saturating_sub(said.len()))]);
    }
}

/// What a program is told, in its environment. What does not apply is empty.
fn variables(told: &Told) -> Vec<(&'static str, String)> {
    let Message { id, kind, state, spec, party, summary, url, first_seen, last_seen, .. } = &told.message;
    let variables = vec![
        ("SUMPEER_EVENT_ID", told.uid.clone()),
        ("SUMPEER_ALERT_ID", id.clone()),
        ("SUMPEER_ALERT_KIND", kind.clone()),
        ("SUMPEER_ALERT_STATE", (*state).to_owned()),
        ("SUMPEER_ALERT_SPEC", spec.clone().unwrap_or_default()),
        ("SUMPEER_ALERT_PARTY", party.clone().unwrap_or_default()),
        ("SUMPEER_ALERT_SUMMARY", summary.clone()),
        ("SUMPEER_ALERT_URL", url.clone()),
        ("SUMPEER_ALERT_FIRST_SEEN", first_seen.to_string()),
        ("SUMPEER_ALERT_LAST_SEEN", last_seen.to_string()),
    ];
    // Names of keys and an operator's note may hold anything; a zero byte would keep the program from starting.
    let plain = |text: String| text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    variables.into_iter().map(|(name, value)| (name, plain(value))).collect()
}
