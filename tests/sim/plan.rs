//! What happens in one run, drawn from its seed: who takes part, who says what, and what breaks when.
//!
//! Pure: the same seed gives the same plan. Only the order in which things come about is the machine's.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{RngExt as _, SeedableRng as _};
use sumpeer::model::{Class, Finding, Spec, Sum};

/// All that one run does.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) nodes: Vec<NodePlan>,
    pub(crate) specs: Vec<Spec>,
    pub(crate) weather: Weather,
    /// What breaks and is mended, and when.
    pub(crate) acts: Vec<(Duration, Act)>,
    /// How long it goes on like that, until all is mended.
    pub(crate) storm: Duration,
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It builds, and its word is its claims log.
    Builds,
    /// It builds nothing; its word is its accepted log.
    Verifies,
    /// Its only voter is itself, and all that it serves is its accepted log: no streams, no API.
    Upstream,
}

#[derive(Debug)]
pub(crate) struct NodePlan {
    pub(crate) kind: Kind,
    /// Whom it follows, and whether their word is needed.
    pub(crate) peers: Vec<(usize, bool)>,
    /// What it finds, in that order, and how long it takes to find it.
    pub(crate) says: Vec<(Duration, usize, Said)>,
}

/// What a node finds about a spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Said {
    /// One of the binaries that it may come to.
    Sum(u8),
    /// That it cannot be built.
    Cannot(Class),
}

/// How likely each fault is, of one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) refused: f64,
    pub(crate) overloaded: f64,
    pub(crate) lost: f64,
    pub(crate) cut: f64,
    pub(crate) garbled: f64,
    pub(crate) stalled: f64,
    /// The longest delay of an answer, and of a piece of its body.
    pub(crate) delay: Duration,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    /// The node is gone in the middle of whatever it does.
    Crash(usize),
    /// The node is asked to end, and ends.
    Stop(usize),
    Start(usize),
    /// Nothing gets from one node to the other.
    Part(usize, usize),
    Join(usize, usize),
    /// All that is under way between two nodes breaks off.
    Break(usize, usize),
    /// Somebody asks a node for a record.
    Ask(usize, usize),
}

impl Plan {
    pub(crate) fn new(seed: u64) -> Plan {
        let mut dice = StdRng::seed_from_u64(seed);
        // Some logs have more than one tile.
        let count = if dice.random_bool(0.03) { dice.random_range(257..=300) } else { dice.random_range(4..=16) };
        let specs = (0..count).map(spec).collect::<Vec<_>>();
        let mut nodes = federation(&mut dice);
        let storm = ms(dice.random_range(100..=400));
        for (number, _) in specs.iter().enumerate() {
            // In long logs most is as it mostly is.
            let scene = if number < 16 { dice.random_range(0..100) } else { 0 };
            let words = words(&mut dice, scene, &nodes);
            for (node, words) in nodes.iter_mut().zip(words) {
                node.says.extend(words.into_iter().map(|said| (Duration::ZERO, number, said)));
            }
        }
        for node in &mut nodes {
            shuffle(&mut dice, &mut node.says);
            let each = 2 * storm / u32::try_from(node.says.len().max(1)).expect("few");
            for (pause, ..) in &mut node.says {
                *pause = each.mul_f64(dice.random_range(0.0..1.0));
            }
        }
        let weather = weather(&mut dice);
        let acts = acts(&mut dice, &nodes, specs.len(), storm);
        Plan { nodes, specs, weather, acts, storm }
    }

    pub(crate) fn name(node: usize) -> String {
        format!("{}.sim", char::from(b'a' + u8::try_from(node).expect("few nodes")))
    }
}

/// The finding that somebody claims.
pub(crate) fn finding(spec: usize, said: Said) -> Finding {
    match said {
        Said::Cannot(class) => Finding::CannotBuild { class, detail: "simulated".to_owned() },
        Said::Sum(which) => {
            let (size, sum) = pair(spec, which);
            Finding::Built { size, sum }
        }
    }
}

/// Size and sum of a binary: the second has another sum, the third only another size.
pub(crate) fn pair(spec: usize, which: u8) -> (u64, Sum) {
    let size = 1000 + 10 * spec as u64 + u64::from(which == 2);
    let mut bytes = [u8::from(which == 1); 20];
    bytes[..2].copy_from_slice(&u16::try_from(spec).expect("few specs").to_be_bytes());
    (size, Sum::from_bytes(bytes))
}

fn spec(number: usize) -> Spec {
    let stripped = if number.is_multiple_of(3) { "-stripped" } else { "" };
    format!("example.com/m@v1.0.{number}/cmd/x/linux-amd64-go1.27.1{stripped}/").parse().expect("a spec")
}

/// Some builders that need each other's word, and perhaps one node of each other kind.
fn federation(dice: &mut StdRng) -> Vec<NodePlan> {
    let builders = dice.random_range(2..=3);
    let mut nodes: Vec<NodePlan> = (0..builders)
        .map(|own| NodePlan {
            kind: Kind::Builds,
            peers: (0..builders).filter(|peer| *peer != own).map(|peer| (peer, true)).collect(),
            says: Vec::new(),
        })
        .collect();
    let everyone = || (0..builders).map(|peer| (peer, true)).collect::<Vec<_>>();
    let add = |nodes: &mut Vec<NodePlan>, kind, peers| {
        nodes.push(NodePlan { kind, peers, says: Vec::new() });
        nodes.len() - 1
    };
    if dice.random_bool(0.3) {
        let upstream = add(&mut nodes, Kind::Upstream, Vec::new());
        let some = dice.random_range(1..=builders);
        for builder in &mut nodes[..some] {
            builder.peers.push((upstream, dice.random_bool(0.8)));
        }
    }
    if dice.random_bool(0.3) {
        // It needs all their words, and they do not need its.
        let outsider = add(&mut nodes, Kind::Builds, everyone());
        let some = dice.random_range(1..=builders);
        for builder in &mut nodes[..some] {
            builder.peers.push((outsider, false));
        }
    }
    if dice.random_bool(0.4) {
        let verifier = add(&mut nodes, Kind::Verifies, everyone());
        if dice.random_bool(0.5) {
            // A builder that waits for it is no ring: it waits for nobody's accepted log itself.
            nodes[0].peers.push((verifier, true));
        } else if dice.random_bool(0.5) {
            add(&mut nodes, Kind::Verifies, vec![(verifier, true)]);
        }
    }
    if nodes.len() == 2 && dice.random_bool(0.3) {
        nodes.iter_mut().for_each(|node| node.peers.extend([(2, true), (3, true)]));
        for own in 2..4 {
            let peers = (0..4).filter(|peer| *peer != own).map(|peer| (peer, true)).collect();
            add(&mut nodes, Kind::Builds, peers);
        }
    }
    nodes
}

/// What each node says of one spec, in order.
fn words(dice: &mut StdRng, scene: u32, nodes: &[NodePlan]) -> Vec<Vec<Said>> {
    let some_class = |dice: &mut StdRng| *[Class::Cgo, Class::NotMain, Class::Timeout].choose(dice).expect("some");
    let mut all: Vec<Vec<Said>> = nodes.iter().map(|_| vec![Said::Sum(0)]).collect();
    let one = dice.random_range(0..nodes.len());
    let other = dice.random_range(0..nodes.len());
    let odd = Said::Sum(dice.random_range(1..=2));
    match scene {
        0..45 => {}
        // Somebody found something else.
        45..60 => all[one] = vec![odd],
        // Somebody changes its mind, perhaps back and forth, perhaps to the same.
        60..80 => {
            for node in if dice.random_bool(0.7) { vec![one] } else { vec![one, other] } {
                let words = [Said::Sum(0), odd, Said::Cannot(some_class(dice))];
                all[node] = (0..dice.random_range(2..=4)).map(|_| *words.choose(dice).expect("some")).collect();
            }
        }
        80..85 => all[one] = vec![Said::Cannot(some_class(dice))],
        85..90 => all.iter_mut().for_each(|words| *words = vec![Said::Cannot(some_class(dice))]),
        // Somebody never builds it.
        90..95 => all[one] = vec![],
        _ => all.iter_mut().for_each(|words| {
            let kept = dice.random_bool(0.5);
            words.retain(|_| kept);
        }),
    }
    for (node, words) in nodes.iter().zip(&mut all) {
        match node.kind {
            Kind::Builds => {}
            Kind::Verifies => words.clear(),
            // It records the first sum that it finds.
            Kind::Upstream => {
                words.retain(|said| matches!(said, Said::Sum(_)));
                words.truncate(1);
            }
        }
    }
    all
}

/// Any order that keeps the words on one spec in theirs.
fn shuffle(dice: &mut StdRng, says: &mut [(Duration, usize, Said)]) {
    let mut queues: BTreeMap<usize, VecDeque<(Duration, usize, Said)>> = BTreeMap::new();
    says.iter().for_each(|said| queues.entry(said.1).or_default().push_back(*said));
    let mut specs: Vec<usize> = says.iter().map(|(_, spec, _)| *spec).collect();
    specs.shuffle(dice);
    for (place, spec) in says.iter_mut().zip(specs) {
        *place = queues.get_mut(&spec).and_then(VecDeque::pop_front).expect("as many as before");
    }
}

fn weather(dice: &mut StdRng) -> Weather {
    let mut chance = |most: f64| if dice.random_bool(0.3) { 0.0 } else { dice.random_range(0.0..most) };
    let [refused, overloaded, lost] = [chance(0.15), chance(0.1), chance(0.1)];
    let [cut, garbled, stalled] = [chance(0.4), chance(0.5), chance(0.05)];
    Weather { refused, overloaded, lost, cut, garbled, stalled, delay: ms(dice.random_range(0..=12)) }
}

fn acts(dice: &mut StdRng, nodes: &[NodePlan], specs: usize, storm: Duration) -> Vec<(Duration, Act)> {
    let mut acts = Vec::new();
    let times = |dice: &mut StdRng, within: Range<f64>| storm.mul_f64(dice.random_range(within));
    for node in 0..nodes.len() {
        if dice.random_bool(0.5) {
            let (down, up) = (times(dice, 0.0..0.6), times(dice, 0.0..0.3));
            acts.push((down, if dice.random_bool(0.7) { Act::Crash(node) } else { Act::Stop(node) }));
            acts.push((down + up, Act::Start(node)));
        }
    }
    for (from, node) in nodes.iter().enumerate() {
        for (to, _) in &node.peers {
            if dice.random_bool(0.3) {
                let (apart, again) = (times(dice, 0.0..0.6), times(dice, 0.0..0.5));
                acts.push((apart, Act::Part(from, *to)));
                acts.push((apart + again, Act::Join(from, *to)));
                if dice.random_bool(0.5) {
                    acts.push((apart, Act::Part(*to, from)));
                    acts.push((apart + again, Act::Join(*to, from)));
                }
            }
            for _ in 0..dice.random_range(0..=2) {
                acts.push((times(dice, 0.0..1.0), Act::Break(from, *to)));
            }
        }
    }
    for _ in 0..dice.random_range(0..=4) {
        let (node, spec) = (dice.random_range(0..nodes.len()), dice.random_range(0..specs));
        acts.push((times(dice, 0.0..1.0), Act::Ask(node, spec)));
    }
    acts.sort_by_key(|(at, _)| *at);
    acts
}

fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}
