//! Forks, wrong roots and rollbacks: which heads prove something against whom.

use std::collections::BTreeSet;

use super::*;
use crate::tlog::{TileKind, VerifyingTiles};

fn logs() -> (Log, Log) {
    (Log::new("a.example", Source::Log, 600, 0), Log::new("a.example", Source::Log, 600, 1))
}

#[test]
fn a_fork_is_proven_at_any_two_sizes() {
    let (one, other) = logs();
    for large in [4, 5, 7, 8, 255, 256, 257, 511, 512, 513, 600] {
        for small in [4, 5, 6, 7, 8, 255, 256, 257, 300, 511, 512, 513, 600] {
            if small > large {
                continue;
            }
            let bundle = fork_of(one.clone(), other.clone(), small, large);
            assert_eq!(word(bundle.encode().as_bytes()), "proven", "{small} {large}");
            let mut turned = bundle.clone();
            turned.parties.reverse();
            assert_eq!(word(turned.encode().as_bytes()), "proven", "the order of heads says nothing");
        }
    }
    let said = check(fork(5, 5).encode().as_bytes(), &[]);
    assert!(said.contains("a.example signed a log of size 5") && said.contains("another of the same size"), "{said}");
    let said = check(fork(5, 9).encode().as_bytes(), &[]);
    assert!(said.contains("one of size 9") && said.contains("the first 5 entries of which have the root"), "{said}");
}

#[test]
fn an_honest_log_is_never_a_fork() {
    let (one, _) = logs();
    for (small, large) in [(1, 2), (3, 5), (5, 9), (255, 256), (256, 600), (300, 512), (599, 600)] {
        let tiles = one.tiles(&fork_tiles(size(small), size(large)));
        let heads = [one.party(small), one.party(large)];
        let error = Bundle::fork(now(), heads, tiles).unwrap_err().to_string();
        assert!(error.contains("continues the smaller"), "{error}");
    }
    let error = Bundle::fork(now(), [one.party(5), one.party(5)], Vec::new()).unwrap_err().to_string();
    assert!(error.contains("one size and root"), "{error}");
    let error = Bundle::fork(now(), [one.party(0), one.party(5)], Vec::new()).unwrap_err().to_string();
    assert!(error.contains("empty"), "{error}");
}

/// Notes what is read.
struct Reads<'a>(&'a mut Log, BTreeSet<Tile>);

impl TileReader for Reads<'_> {
    type Error = String;

    fn read_tile(&mut self, level: u8, index: u64, width: u16) -> Result<Vec<Hash>, String> {
        self.1.insert(Tile { kind: TileKind::Hashes(level), index, width });
        self.0.read_tile(level, index, width)
    }
}

#[test]
fn the_tiles_of_a_fork_are_all_that_is_read_and_no_more() {
    let mut log = Log::new("a.example", Source::Log, 66_200, 0);
    for large in [2, 9, 255, 256, 257, 600, 65_535, 65_536, 65_537, 65_800, 66_049, 66_200] {
        let root = tree_hash(&mut log, size(large)).unwrap();
        for small in [1, 5, 255, 256, 257, 300, 512, 600, 65_535, 65_536, 65_793, 66_048, 66_199] {
            if small >= large {
                continue;
            }
            let mut proved = VerifyingTiles::new(Reads(&mut log, BTreeSet::new()), size(large), root);
            tree_hash(&mut proved, size(small)).unwrap();
            let read: Vec<Tile> = proved.into_inner().1.into_iter().collect();
            assert_eq!(fork_tiles(size(small), size(large)), read, "{small} {large}");
            assert_eq!(fork_tiles(size(large), size(small)), read);
        }
    }
    assert_eq!(fork_tiles(size(5), size(5)), []);
    assert_eq!(fork_tiles(size(0), size(5)), []);
    assert!(fork_tiles(size((1 << 40) - 1), size(1 << 40)).len() < 13);
}

#[test]
fn tiles_must_be_the_right_ones() {
    let bundle = fork(300, 900);
    let with = |change: &dyn Fn(&mut Vec<EvidenceTile>)| {
        let mut changed = bundle.clone();
        change(&mut changed.tiles);
        changed
    };
    for at in 0..bundle.tiles.len() {
        refused(&with(&|tiles| drop(tiles.remove(at))), "not those");
        refused(&with(&|tiles| tiles.insert(at, tiles[at].clone())), "not those");
        refused(&with(&|tiles| tiles[at].data[5] ^= 1), "do not lead to the larger root");
        refused(&with(&|tiles| tiles[at].data.truncate(31)), "hashes");
    }
    refused(&with(&|tiles| tiles.reverse()), "not those");
    // Of the other branch: true hashes, but not those of the larger head.
    let one = Log::new("a.example", Source::Log, 900, 0);
    let others = one.tiles(&fork_tiles(size(300), size(900)));
    refused(&with(&|tiles| tiles.clone_from(&others)), "do not lead to the larger root");
    // Without any it shows two heads, and says that this is all.
    let judgement = check(with(&|tiles| tiles.clear()).encode().as_bytes(), &[]);
    assert!(judgement.starts_with("shown") && judgement.contains("nothing here says"), "{judgement}");
    let mut same = fork(5, 5);
    same.tiles = fork(5, 9).tiles;
    refused(&same, "need no tiles");
    // Both path forms name the same tile.
    let c2sp = with(&|tiles| tiles.iter_mut().for_each(|tile| tile.form = PathForm::C2sp));
    assert_eq!(word(c2sp.encode().as_bytes()), "proven");
}

#[test]
fn heads_of_two_logs_are_no_fork() {
    let one = Log::new("a.example", Source::Log, 5, 0);
    let with = |change: &dyn Fn(&mut Log)| {
        let mut other = Log::new("a.example", Source::Log, 5, 1);
        change(&mut other);
        Bundle::fork(now(), [one.party(5), other.party(5)], Vec::new())
    };
    assert!(with(&|_| ()).is_ok());
    let changes: [&dyn Fn(&mut Log); 4] = [
        &|log| log.key = key("b.example"),
        &|log| log.key = SignerKey::generate("a.example", [77; 32]).unwrap(),
        &|log| log.sumdb = false,
        &|log| (log.source, log.sumdb) = (Source::Claims, false),
    ];
    for change in changes {
        let error = with(change).unwrap_err().to_string();
        assert!(error.contains("not of one log"), "{error}");
    }
}

#[test]
fn a_key_signs_only_heads_of_its_own_name() {
    let head = |origin: &str, signer: &str, source| {
        let signer = key(signer);
        let note = |last: char| {
            let root = format!("{}{last}AAA=", "A".repeat(39));
            sign_note(&format!("{origin}\n5\n{root}\n"), &[&signer])
        };
        let party = |last| Party::new("a", signer.verifier(), source, note(last).as_bytes()).unwrap();
        Bundle::fork(now(), [party('A'), party('B')], Vec::new()).is_ok()
    };
    for (origin, signer, source, fits) in [
        (SUMDB_ORIGIN, "a.example", Source::Log, true),
        (SUMDB_ORIGIN, "a.example", Source::Claims, false),
        ("a.example/log", "a.example/log", Source::Log, true),
        ("a.example/claims", "a.example/claims", Source::Claims, true),
        ("a.example/claims", "a.example/claims", Source::Log, false),
        ("a.example/log", "a.example/log", Source::Claims, false),
        ("a.example/log", "a.example", Source::Log, false),
        ("b.example/log", "a.example/log", Source::Log, false),
        ("a.example", "a.example", Source::Log, false),
        ("/log", "/log", Source::Log, false),
        ("/claims", "/claims", Source::Claims, false),
    ] {
        assert_eq!(head(origin, signer, source), fits, "{origin} {signer} {source}");
    }
}

#[test]
fn a_head_has_one_signature_in_one_form() {
    let good = fork(5, 5);
    let signer = key("a.example");
    let text = good.parties[0].head.split_inclusive('\n').take(3).collect::<String>();
    assert_eq!(sign_note(&text, &[&signer]), good.parties[0].head);
    let with = |head: String| {
        let mut bundle = good.clone();
        bundle.parties[0].head = head;
        bundle
    };
    let stranger = key("b.example");
    for signers in [[&signer, &stranger], [&stranger, &signer], [&signer, &signer]] {
        let note = sign_note(&text, &signers);
        refused(&with(note.clone()), "more than one signature");
        // Whoever makes a bundle need not mind.
        let party = Party::new("a.example", signer.verifier(), Source::Log, note.as_bytes()).unwrap();
        assert_eq!(party, good.parties[0]);
    }
    let head = &good.parties[0].head;
    let padded = head.rfind("=\n").unwrap();
    let sloppy = format!("{}{}=\n", &head[..padded - 1], char::from(head.as_bytes()[padded - 1] + 1));
    refused(&with(sloppy), "not written as it should be");
    refused(&with(sign_note(&text, &[&stranger])), "no signature of a known key");
    refused(&with(head.replacen("\n5\n", "\n6\n", 1)), "is not valid");
    refused(&with("go.sum database tree\n".to_owned()), "malformed note");
    refused(&with(sign_note("go.sum database tree\n05\nx\n", &[&signer])), "malformed tree head");
}

#[test]
fn a_rollback_is_shown_and_has_an_order() {
    let judgement = check(rollback().encode().as_bytes(), &[]);
    assert!(judgement.starts_with("shown a.example/claims signed a log of size 9 and one of size 5"), "{judgement}");
    let mut turned = rollback();
    turned.parties.reverse();
    refused(&turned, "not smaller");
    let mut other = rollback();
    other.parties[1] = Log::new("b.example", Source::Claims, 5, 0).party(5);
    refused(&other, "not of one log");
}

#[test]
fn a_bad_root_is_shown_unless_the_entries_give_it() {
    for sumdb in [true, false] {
        let bundle = bad_root(sumdb);
        let judgement = check(bundle.encode().as_bytes(), &[]);
        assert!(judgement.starts_with("shown") && judgement.contains("the entries here give"), "{judgement}");
        let mut honest = Log::new("a.example", Source::Log, 7, 0);
        honest.sumdb = sumdb;
        let mut right = bundle.clone();
        right.tiles = honest.tiles(&[bundle.tiles[0].tile]);
        refused(&right, "give the signed root");
        let mut half = bundle.clone();
        half.tiles[0].tile.width = 6;
        refused(&half, "as many entries");
        let mut twice = bundle.clone();
        twice.tiles.push(twice.tiles[0].clone());
        refused(&twice, "twice");
        let mut far = bundle.clone();
        far.tiles[0].tile.index = i64::MAX.unsigned_abs();
        refused(&far, "beyond every log");
        let mut none = bundle.clone();
        none.tiles.clear();
        let judgement = check(none.encode().as_bytes(), &[]);
        assert!(judgement.starts_with("shown") && judgement.contains("not all of its entries"), "{judgement}");
    }
    // Over several tiles, the last one not full.
    let log = Log::new("a.example", Source::Log, 600, 0);
    let tile = |index, width| Tile { kind: TileKind::Entries, index, width };
    let mut tiles = log.tiles(&[tile(0, 256), tile(1, 256), tile(2, 88)]);
    let error = Bundle::bad_root(now(), log.party(600), tiles.clone()).unwrap_err().to_string();
    assert!(error.contains("give the signed root"), "{error}");
    tiles.remove(1);
    assert!(Bundle::bad_root(now(), log.party(600), tiles).is_ok());
    // The right entries, but not where they were served: a bundle of C2SP does not say where it belongs.
    let log = Log { sumdb: false, ..log };
    let mut tiles = log.tiles(&[tile(0, 256), tile(1, 256), tile(2, 88)]);
    tiles[2].tile.index = 7;
    let bundle = Bundle::bad_root(now(), log.party(600), tiles).unwrap();
    assert!(check(bundle.encode().as_bytes(), &[]).contains("not all of its entries"));
}
