//! How far a build has come, for those who wait for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// How long the module proxy must have been idle before the build is taken to compile.
const FETCHING: Duration = Duration::from_millis(800);

/// What a build is at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It waits; 0 is next.
    Queued { position: usize },
    /// `done` and `total` are bytes of downloads.
    Running { phase: Phase, done: u64, total: Option<u64>, lines: Vec<String> },
    /// It has ended, and what came of it is stored.
    Done,
}

/// The parts of a build, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The Go toolchain is being downloaded and tried.
    Toolchain,
    /// Modules are being downloaded.
    Modules,
    /// The go command compiles and links.
    Compile,
    /// This node is done; others are not.
    Voters,
}

/// Tells those who wait. Cloning gives another handle.
#[derive(Clone)]
pub(super) struct Reporter {
    progress: watch::Sender<Progress>,
    fetched: Arc<Mutex<Fetched>>,
}

struct Fetched {
    /// Per file: bytes so far, and of how many.
    files: HashMap<String, (u64, Option<u64>)>,
    last: Instant,
}

impl Reporter {
    pub(super) fn new(progress: watch::Sender<Progress>) -> Reporter {
        let fetched = Fetched { files: HashMap::new(), last: Instant::now() };
        Reporter { progress, fetched: Arc::new(Mutex::new(fetched)) }
    }

    /// Enters a phase with a sentence about it, if there is one to say.
    pub(super) fn enter(&self, phase: Phase, line: Option<String>) {
        let lines = line.into_iter().collect();
        self.progress.send_replace(Progress::Running { phase, done: 0, total: None, lines });
    }

    /// Bytes of the toolchain.
    pub(super) fn toolchain(&self, done: u64, total: Option<u64>) {
        self.progress.send_replace(Progress::Running { phase: Phase::Toolchain, done, total, lines: Vec::new() });
    }

    /// Bytes of one file of a module.
    pub(super) fn module(&self, path: &str, done: u64, total: Option<u64>) {
        let mut fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        fetched.last = Instant::now();
        fetched.files.insert(path.to_owned(), (done, total));
        let done = fetched.files.values().map(|file| file.0).sum();
        let total = fetched.files.values().map(|file| file.1).sum();
        drop(fetched);
        self.change(|phase, now, of, _| (*phase, *now, *of) = (Phase::Modules, done, total));
    }

    /// The last lines of the output.
    pub(super) fn lines(&self, last: Vec<String>) {
        self.change(|_, _, _, lines| *lines = last);
    }

    /// To be called now and then: nothing fetched for a while means that it compiles.
    pub(super) fn tick(&self) {
        let idle = self.fetched.lock().unwrap_or_else(PoisonError::into_inner).last.elapsed() > FETCHING;
        if idle {
            self.change(|phase, _, _, _| *phase = Phase::Compile);
        }
    }

    fn change(&self, change: impl FnOnce(&mut Phase, &mut u64, &mut Option<u64>, &mut Vec<String>)) {
        self.progress.send_if_modified(|progress| {
            let before = progress.clone();
            if let Progress::Running { phase, done, total, lines } = progress {
                change(phase, done, total, lines);
            }
            *progress != before
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn downloads_add_up_and_lines_stay() {
        let (sender, receiver) = watch::channel(Progress::Queued { position: 0 });
        let reporter = Reporter::new(sender);
        reporter.enter(Phase::Modules, None);
        reporter.lines(vec!["go: downloading".into()]);
        reporter.module("a", 5, Some(10));
        reporter.module("b", 1, Some(2));
        reporter.module("a", 10, Some(10));
        let lines = vec!["go: downloading".to_owned()];
        let expected = |total| Progress::Running { phase: Phase::Modules, done: 11, total, lines: lines.clone() };
        assert_eq!(*receiver.borrow(), expected(Some(12)));
        reporter.module("c", 0, None);
        assert_eq!(*receiver.borrow(), expected(None), "one unknown size makes the sum unknown");
    }
}
