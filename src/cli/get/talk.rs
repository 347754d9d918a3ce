//! What a person sees meanwhile, on stderr: bars on a terminal, single lines elsewhere.

use std::future::Future;
use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// How long nothing is said about a wait where lines cannot be taken back.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct Talk {
    bars: MultiProgress,
    terminal: bool,
}

impl Talk {
    pub(super) fn new() -> Talk {
        Talk { bars: MultiProgress::new(), terminal: std::io::stderr().is_terminal() }
    }

    /// A line that stays.
    pub(super) fn say(&self, line: &str) {
        self.bars.suspend(|| eprintln!("{line}"));
    }

    /// Shows that `work` is being waited for, if it takes its time.
    pub(super) async fn while_waiting<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        if self.terminal {
            let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}").expect("a fixed template");
            let bar = self.bars.add(ProgressBar::new_spinner().with_style(style).with_message(what.to_owned()));
            bar.enable_steady_tick(Duration::from_millis(120));
            let done = work.await;
            bar.finish_and_clear();
            return done;
        }
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(PATIENCE) => self.say(what),
        }
        work.await
    }

    /// A bar over the bytes of a download; draws nothing where there is no terminal.
    pub(super) fn bytes(&self, name: &str, size: u64) -> ProgressBar {
        let template = "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}";
        let style = ProgressStyle::with_template(template).expect("a fixed template").progress_chars("=> ");
        self.bars.add(ProgressBar::new(size).with_style(style).with_message(name.to_owned()))
    }
}
