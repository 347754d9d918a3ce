//! One run: a federation starts, the plan's storm goes over it, all is mended, and then everything must be as it should.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use sumpeer::model::{Record, Spec};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tower::ServiceExt as _;

use crate::check;
use crate::net::Net;
use crate::node::{self, Site, Up};
use crate::plan::{Act, Plan, pair};

/// How long a mended federation may take to agree once all is found. It takes a fraction of a second, but the machine
/// may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came about how often.
pub(crate) type Counts = BTreeMap<&'static str, u64>;

/// # Errors
/// What did not hold, in a sentence.
pub(crate) async fn run(seed: u64) -> anyhow::Result<Counts> {
    let plan = Plan::new(seed);
    let data = node::folder()?;
    let net = Net::new(seed, &plan);
    let sites: Vec<Site> = (0..plan.nodes.len()).map(|number| Site::new(&plan, number, data.path(), &net)).collect();
    let mut nodes: Vec<Option<Up>> = Vec::new();
    for site in &sites {
        nodes.push(Some(site.start().await?));
    }
    let mut people = JoinSet::new();
    let begun = Instant::now();
    for (at, act) in &plan.acts {
        sleep_until(begun + *at).await;
        match *act {
            Act::Crash(node) => {
                net.count("crashes");
                nodes[node].take().context("it is down")?.crash(&net, node);
            }
            Act::Stop(node) => {
                net.count("restarts");
                nodes[node].take().context("it is down")?.stop(&net, node).await?;
            }
            Act::Start(node) => nodes[node] = Some(sites[node].start().await?),
            Act::Part(from, to) => net.set_open(from, to, false),
            Act::Join(from, to) => net.set_open(from, to, true),
            Act::Break(from, to) => net.break_off(from, to),
            Act::Ask(node, spec) => {
                if let Some(up) = &nodes[node] {
                    people.spawn(ask(up.router.clone(), plan.specs[spec].clone(), spec));
                }
            }
        }
        for up in nodes.iter_mut().flatten() {
            up.check()?;
        }
    }
    sleep_until(begun + plan.storm).await;
    net.calm_down();
    while let Some(answered) = people.join_next().await {
        answered??;
    }
    settle(&plan, &sites, &mut nodes).await?;
    for up in nodes.iter().flatten() {
        let told = up.store.read(|reader| Ok((reader.count_records()?, reader.count_open_divergences()?))).await?;
        (0..told.0).for_each(|_| net.count("records"));
        (0..told.1).for_each(|_| net.count("divergences"));
    }
    for (site, up) in sites.iter().zip(nodes) {
        up.context("it is down")?.stop(&net, site.number).await?;
    }
    Ok(net.counts())
}

/// Waits until all nodes have heard everything, and checks all that must hold then.
async fn settle(plan: &Plan, sites: &[Site], nodes: &mut [Option<Up>]) -> anyhow::Result<()> {
    let mut deadline = Instant::now() + PATIENCE;
    let mut found = 0;
    loop {
        for up in nodes.iter_mut().flatten() {
            up.check()?;
        }
        let up = sites.iter().zip(&*nodes).map(|(site, up)| Some((site, up.as_ref()?))).collect::<Option<Vec<_>>>();
        let up = up.context("a node is down")?;
        let found_now = sites.iter().map(Site::found).sum();
        if found_now != found {
            (found, deadline) = (found_now, Instant::now() + PATIENCE);
        }
        let quiet = sites.iter().all(Site::is_done) && check::caught_up(plan, &up).await?;
        let late = Instant::now() > deadline;
        if quiet || late {
            // Words are judged as they are stored, but all of them once more after a start, which takes a moment.
            match check::all(plan, &up).await {
                Ok(()) if quiet => return Ok(()),
                Err(error) if late => {
                    return Err(error.context(format!("after {PATIENCE:?} of calm, heard all: {quiet}")));
                }
                Ok(()) => ensure!(!late, "the nodes do not come to rest"),
                Err(_) => {}
            }
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// Asks a node for a record as a person does. Whatever the moment, the answer is never a sum that nobody found.
async fn ask(router: Router, spec: Spec, number: usize) -> anyhow::Result<()> {
    let request = Request::get(format!("/tlog/lookup/{spec}")).body(Body::empty())?;
    let Ok(response) = router.oneshot(request).await;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    let text = std::str::from_utf8(&body)?;
    match status {
        StatusCode::OK => {
            let line = text.lines().nth(1).context("a lookup without a record")?;
            let record = Record::parse(format!("{line}\n").as_bytes())?;
            ensure!((0..=2).any(|which| pair(number, which) == (record.size, record.sum)), "nobody found {line}");
        }
        StatusCode::NOT_FOUND | StatusCode::CONFLICT | StatusCode::SERVICE_UNAVAILABLE => {}
        other => anyhow::bail!("a lookup is answered {other}: {text}"),
    }
    Ok(())
}

/// Keeps the number of a run that failed with what failed, and how to see it again.
pub(crate) fn told(seed: u64, error: &anyhow::Error) -> String {
    let plan = Plan::new(seed);
    let kinds: Vec<_> = plan.nodes.iter().map(|node| (node.kind, &node.peers)).collect();
    format!(
        "seed {seed}: {error:#}\n  nodes {kinds:?}\n  again: SUMPEER_SIM_SEED={seed} cargo test --release --test sim"
    )
}
