//! What must hold of every node when all is mended: its logs whole, its copies true, its verdicts those that the plan
//! asks for, and nothing held against anybody honest.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail, ensure};
use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use sumpeer::evidence::{Judgement, verify};
use sumpeer::log::{self, StoredTiles};
use sumpeer::model::{Claim, Finding, Record, Spec};
use sumpeer::store::{DivergenceRow, HeadForm, LogId, Reader, TreeId};
use sumpeer::tally::State;
use sumpeer::tlog::{CompactRange, SUMDB_ORIGIN, TreeSize, leaf_hash, open_head, tree_hash};
use tower::ServiceExt as _;

use crate::expect::{Expected, Party, expected};
use crate::node::{Site, Up};
use crate::plan::{Kind, Plan, Said, pair};

/// Both logs of every node, by its number.
struct Logs(BTreeMap<(usize, &'static str), Read>);

/// A log, entry by entry, and what these say.
struct Read {
    entries: Vec<Vec<u8>>,
    words: Vec<(usize, Said)>,
}

impl Logs {
    fn of(&self, node: usize, log: LogId) -> &Read {
        &self.0[&(node, log.name())]
    }
}

/// Everything that must hold in the end.
pub(crate) async fn all(plan: &Plan, nodes: &[(&Site, &Up)]) -> anyhow::Result<()> {
    let numbers = plan.specs.iter().enumerate().map(|(number, spec)| (spec.to_string(), number)).collect();
    let mut logs = Logs(BTreeMap::new());
    for (site, up) in nodes {
        let forms = log::forms(&site.key);
        for (log, forms) in [(LogId::Accepted, forms.accepted), (LogId::Claims, forms.claims)] {
            let entries = up.store.read(move |reader| whole(reader, log, &forms)).await;
            let entries = entries.with_context(|| format!("{}: the {} log", site.key.name(), log.name()))?;
            let read = |entry: &Vec<u8>| match log {
                LogId::Accepted => record(&numbers, entry),
                LogId::Claims => claim(&numbers, entry),
            };
            let words = entries.iter().map(read).collect::<anyhow::Result<_>>()?;
            logs.0.insert((site.number, log.name()), Read { entries, words });
        }
    }
    for (site, up) in nodes {
        node(plan, &logs, site, up).await.with_context(|| site.key.name().to_owned())?;
    }
    Ok(())
}

async fn node(plan: &Plan, logs: &Logs, site: &Site, up: &Up) -> anyhow::Result<()> {
    ensure!(up.tally.frozen().is_none(), "it doubts itself: {:?}", up.tally.frozen());
    claims(plan, site.number, &logs.of(site.number, LogId::Claims).words)?;
    copies(plan, logs, site, up).await.context("its copies of others' logs")?;
    let (quarantined, rows) =
        up.store.read(|reader| Ok((reader.quarantined()?, reader.divergences(0, 100_000)?))).await?;
    ensure!(quarantined.is_empty(), "in quarantine, though nobody lied about a log: {quarantined:?}; {rows:?}");

    let mut told = BTreeSet::new();
    for (number, spec) in plan.specs.iter().enumerate() {
        let heard = parties(plan, logs, site.number, number);
        verdict(number, spec, &heard, &rows, up, &mut told)
            .await
            .with_context(|| format!("{spec}: {}", heard.iter().map(shown).collect::<Vec<_>>().join(", ")))?;
    }
    ensure!(told.len() == rows.len(), "it tells of more than there is: {rows:?}");
    for row in &rows {
        evidence(&up.router, row).await.with_context(|| format!("the evidence of {row:?}"))?;
    }
    records(plan, logs, site)
}

fn shown(party: &Party) -> String {
    format!("{}{} said {:?}", party.name, if party.votes { "" } else { " (observed)" }, party.said)
}

/// Hashes a log again, and compares it with its tiles and with every form of its signed head.
fn whole(reader: &Reader<'_>, log: LogId, forms: &[HeadForm]) -> anyhow::Result<Vec<Vec<u8>>> {
    let entries = reader.entries(log, 0, u64::MAX >> 1)?;
    let range = hashed(&entries);
    stored_root(reader, log.into(), &range)?;
    for form in forms {
        let (size, root, note) = reader.head(log, &form.origin)?.context("it has no head")?;
        let head = open_head(note.as_bytes(), &form.signer.verifier(), &form.origin)?;
        ensure!((size, root) == (head.size, head.root), "a head is noted as of another size or root");
        ensure!(
            (head.size, head.root) == (range.size(), range.root()),
            "the head of {} has size {} and root {}, its entries have {} and {}",
            form.origin,
            head.size,
            head.root,
            range.size(),
            range.root(),
        );
    }
    Ok(entries)
}

fn hashed(entries: &[Vec<u8>]) -> CompactRange {
    let mut range = CompactRange::new();
    entries.iter().for_each(|entry| range.push(leaf_hash(entry)));
    range
}

fn stored_root(reader: &Reader<'_>, tree: TreeId, range: &CompactRange) -> anyhow::Result<()> {
    let root = tree_hash(&mut StoredTiles { reader, tree }, range.size())?;
    ensure!(root == range.root(), "the tiles give the root {root}, the entries {}", range.root());
    Ok(())
}

/// All that the node found is there, in order and once, over all restarts.
fn claims(plan: &Plan, node: usize, found: &[(usize, Said)]) -> anyhow::Result<()> {
    let mut latest = BTreeMap::new();
    let says = plan.nodes[node].says.iter().map(|(_, spec, said)| (*spec, *said));
    let wanted: Vec<(usize, Said)> = says.filter(|(spec, said)| latest.insert(*spec, *said) != Some(*said)).collect();
    let differs = (0..found.len().max(wanted.len())).find(|number| found.get(*number) != wanted.get(*number));
    let Some(number) = differs else {
        return Ok(());
    };
    bail!("claim {number} is {:?}, but it found {:?}", found.get(number), wanted.get(number))
}

type Numbers = BTreeMap<String, usize>;

fn claim(numbers: &Numbers, entry: &[u8]) -> anyhow::Result<(usize, Said)> {
    let claim = Claim::parse(entry)?;
    let spec = *numbers.get(&claim.spec.to_string()).context("nobody built that")?;
    let said = match claim.finding {
        Finding::CannotBuild { class, .. } => Said::Cannot(class),
        Finding::Built { size, sum } => sum_of(spec, (size, sum))?,
    };
    Ok((spec, said))
}

fn record(numbers: &Numbers, entry: &[u8]) -> anyhow::Result<(usize, Said)> {
    let record = Record::parse(entry)?;
    ensure!(record.to_text().as_bytes() == entry, "a record is not written as records are");
    let spec = *numbers.get(&record.spec.to_string()).context("nobody built that")?;
    Ok((spec, sum_of(spec, (record.size, record.sum))?))
}

fn sum_of(spec: usize, found: (u64, sumpeer::model::Sum)) -> anyhow::Result<Said> {
    let which = (0..=2).find(|which| pair(spec, *which) == found).context("nobody found that")?;
    Ok(Said::Sum(which))
}

/// What the node hears on one spec, itself first.
fn parties(plan: &Plan, logs: &Logs, node: usize, spec: usize) -> Vec<Party> {
    let plan_of = &plan.nodes[node];
    let own = (plan_of.kind != Kind::Verifies).then_some((node, true));
    let heard = own.into_iter().chain(plan_of.peers.iter().copied());
    heard
        .map(|(party, votes)| {
            let words = &logs.of(party, words_of(plan.nodes[party].kind, party == node)).words;
            let said = words.iter().filter(|(about, _)| *about == spec).map(|(_, said)| *said).collect();
            Party { name: Plan::name(party), votes, said }
        })
        .collect()
}

/// The log with a party's words. Of itself every node knows what it claims.
fn words_of(kind: Kind, own: bool) -> LogId {
    if kind == Kind::Builds || own { LogId::Claims } else { LogId::Accepted }
}

/// The accepted log has each spec once, and only sums that all voters have named.
fn records(plan: &Plan, logs: &Logs, site: &Site) -> anyhow::Result<()> {
    let mut specs = BTreeSet::new();
    for (spec, said) in logs.of(site.number, LogId::Accepted).words.iter().copied() {
        ensure!(specs.insert(spec), "{} is recorded twice", plan.specs[spec]);
        let parties = parties(plan, logs, site.number, spec);
        let silent = parties.iter().find(|party| party.votes && !party.said.contains(&said));
        ensure!(silent.is_none(), "{} was never said by {}", plan.specs[spec], silent.map_or("", |party| &party.name));
    }
    Ok(())
}

/// What is stored of each peer's log is that log, and every head kept is one of it.
async fn copies(plan: &Plan, logs: &Logs, site: &Site, up: &Up) -> anyhow::Result<()> {
    for (peer, _) in &plan.nodes[site.number].peers {
        let key = crate::node::key(*peer).verifier();
        let (vkey, log) = (key.to_string(), words_of(plan.nodes[*peer].kind, false));
        let real = logs.of(*peer, log).entries.clone();
        let key = if log == LogId::Claims { key.as_name(&format!("{}/claims", key.name())) } else { key };
        let origin = if log == LogId::Claims { key.name().to_owned() } else { SUMDB_ORIGIN.to_owned() };
        let check = move |reader: &Reader<'_>| {
            let row = reader.peer_log(&vkey, log)?.context("nothing is stored")?;
            let entries = reader.peer_entries(row.id, 0, u64::MAX >> 1)?;
            ensure!(entries == real, "{} entries are stored of {}, or others", entries.len(), real.len());
            ensure!(reader.count_peer_entries(row.id)? == real.len() as u64, "there are rows beside the log");
            let range = hashed(&real);
            ensure!(row.range == range, "the edge of its tree is another");
            stored_root(reader, row.id.into(), &range)?;
            let mut notes: Vec<String> = row.head.into_iter().collect();
            ensure!(real.is_empty() || !notes.is_empty(), "there is no signed head over what is stored");
            notes.extend(reader.peer_heads(row.id, 1000)?.into_iter().map(|head| head.note));
            for (number, note) in notes.iter().enumerate() {
                let head = open_head(note.as_bytes(), &key, &origin)?;
                let size = usize::try_from(head.size.get())?;
                ensure!(size <= real.len() && (number > 0 || size == real.len()), "a head has the size {size}");
                ensure!(head.root == hashed(&real[..size]).root(), "a head of size {size} has another root");
            }
            Ok(())
        };
        up.store.read(check).await.with_context(|| Plan::name(*peer))?;
    }
    Ok(())
}

/// The node's verdict on a spec, and what it tells of it, are what the words ask for.
async fn verdict(
    number: usize,
    spec: &Spec,
    heard: &[Party],
    rows: &[DivergenceRow],
    up: &Up,
    told: &mut BTreeSet<i64>,
) -> anyhow::Result<()> {
    let Expected { states, waiting_for, divergence, contradictions } = expected(heard);
    let view = up.tally.view(spec).await?;
    let which = match &view.record {
        Some(row) => match sum_of(number, (row.record.size, row.record.sum))? {
            Said::Sum(which) => Some(which),
            Said::Cannot(_) => bail!("a record without a sum"),
        },
        None => None,
    };
    let found = (view.state, which);
    ensure!(states.contains(&found), "its verdict is {found:?} instead of {states:?}");
    if view.state == State::Waiting {
        let names: BTreeSet<String> = view.waiting_for.iter().cloned().collect();
        ensure!(names == waiting_for, "it waits for {names:?} instead of {waiting_for:?}");
    }
    let on_spec = |row: &&DivergenceRow| row.spec.as_deref() == Some(&spec.to_string());
    let mut expect = |kind: &str, party: Option<&str>, must: crate::expect::Must| {
        let of_party = |row: &&DivergenceRow| {
            party.is_none_or(|name| row.party.as_deref().is_some_and(|vkey| vkey.starts_with(&format!("{name}+"))))
        };
        let found: Vec<&DivergenceRow> =
            rows.iter().filter(on_spec).filter(|row| row.kind == kind && of_party(row)).collect();
        ensure!(found.len() <= 1, "it tells of one {kind} {} times", found.len());
        ensure!(must.is_met_by(!found.is_empty()), "{kind} of {party:?}: must {must:?}, found {found:?}");
        for row in found {
            ensure!(row.open, "nobody has resolved the {kind} {}", row.id);
            told.insert(row.id);
        }
        Ok(())
    };
    expect("divergence", None, divergence)?;
    for (party, must) in heard.iter().zip(contradictions) {
        expect("contradiction", Some(&party.name), must)?;
    }
    Ok(())
}

/// Anybody can be shown who said what.
async fn evidence(router: &Router, row: &DivergenceRow) -> anyhow::Result<()> {
    let request = Request::get(format!("/api/v1/divergences/{}/evidence", row.id)).body(Body::empty())?;
    let Ok(response) = router.clone().oneshot(request).await;
    let status = response.status();
    let bytes = response.into_body().collect().await?.to_bytes();
    ensure!(status == StatusCode::OK, "{status} {}", String::from_utf8_lossy(&bytes));
    match verify(&bytes, &[]) {
        Judgement::Proven(statement) => {
            ensure!(statement.kind.as_str() == row.kind, "it proves a {}", statement.kind);
            ensure!(statement.spec.map(|spec| spec.to_string()) == row.spec, "it is about another spec");
            Ok(())
        }
        other => bail!("it proves nothing: {other:?}"),
    }
}

/// Whether every node has taken in all that its peers have signed.
pub(crate) async fn caught_up(plan: &Plan, nodes: &[(&Site, &Up)]) -> anyhow::Result<bool> {
    for (site, up) in nodes {
        for (peer, _) in &plan.nodes[site.number].peers {
            let log = words_of(plan.nodes[*peer].kind, false);
            let wanted: TreeSize = nodes[*peer].1.store.heads(log).borrow().size;
            let vkey = nodes[*peer].0.key.verifier().to_string();
            let row = up.store.read(move |reader| reader.peer_log(&vkey, log)).await?;
            let stored = row.map_or(TreeSize::ZERO, |row| row.range.size());
            if stored != wanted {
                return Ok(false);
            }
        }
    }
    Ok(true)
}
