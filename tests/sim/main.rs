//! Simulated federations: real nodes, a made-up wire, and everything that can happen to one.
//!
//! A run is drawn from its seed: who follows whom, who finds what, when nodes crash or are stopped and come back, and
//! which requests are refused, delayed, lost, chopped, cut, garbled or held up. When the storm is over, every log
//! of every node is hashed again, and every verdict compared with what the plan asks for.
//!
//! The seed fixes the plan and the dice. How threads run stays the machine's, so a run that failed may pass when
//! it is repeated: `SUMPEER_SIM_SEED` with `SUMPEER_SIM_RUNS` repeats it so many times.

mod check;
mod expect;
mod net;
mod node;
mod plan;
mod run;

use std::str::FromStr;
use std::time::Instant;

use tokio::task::JoinSet;

/// Runs without `SUMPEER_SIM_RUNS`: less than a minute.
const RUNS: u64 = 150;
/// Runs at a time: they mostly wait.
const AT_ONCE: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn federations_agree_whatever_the_network_does() {
    let seed: Option<u64> = setting("SUMPEER_SIM_SEED");
    let count = setting("SUMPEER_SIM_RUNS").unwrap_or(if seed.is_some() { 1 } else { RUNS });
    let mut seeds = (0..count).map(|number| seed.unwrap_or(number));
    let begun = Instant::now();
    let mut running = JoinSet::new();
    let mut failed = Vec::new();
    let mut counts = run::Counts::new();
    loop {
        while running.len() < AT_ONCE
            && let Some(seed) = seeds.next()
        {
            running.spawn(async move { run::run(seed).await.map_err(|error| run::told(seed, &error)) });
        }
        match running.join_next().await {
            None => break,
            Some(Ok(Ok(more))) => more.into_iter().for_each(|(what, times)| *counts.entry(what).or_default() += times),
            Some(Ok(Err(told))) => {
                eprintln!("{told}");
                failed.push(told);
            }
            Some(Err(panicked)) => failed.push(format!("a run panicked: {panicked}")),
        }
    }
    let first = seed.unwrap_or(0);
    eprintln!("{count} runs from seed {first} in {:.1?}, {} failed: {counts:?}", begun.elapsed(), failed.len());
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
}

fn setting<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}
