//! Divergences, contradictions and wrong copies: which words prove something against whom.

use super::*;
use crate::model::Class;

fn fails(spec: Spec, parties: [Party; 2], says: &str) {
    let error = Bundle::words(now(), spec, parties, None).unwrap_err().to_string();
    assert!(error.contains(says), "{says:?}: {error}");
}

#[test]
fn two_words_are_proven_in_whichever_logs_they_stand() {
    let judgement = check(divergence().encode().as_bytes(), &[]);
    let said = format!("{} of 1001 bytes, and b.example signed {} of 1002 bytes", sum(1), sum(2));
    assert!(judgement.starts_with("proven") && judgement.contains(&said), "{judgement}");
    for sources in [[Source::Claims; 2], [Source::Log; 2], [Source::Log, Source::Claims]] {
        for sumdb in [true, false] {
            let party = |name, source, number| {
                let entry = if source == Source::Claims { claim(number) } else { record(number) };
                let mut log = Log::saying(name, source, entry);
                log.sumdb &= sumdb;
                log.word()
            };
            for (other, kind) in [("b.example", Kind::Divergence), ("a.example", Kind::Contradiction)] {
                let parties = [party("a.example", sources[0], 1), party(other, sources[1], 2)];
                let bundle = Bundle::words(now(), spec(), parties, None).unwrap();
                assert_eq!((bundle.kind, word(bundle.encode().as_bytes()).as_str()), (kind, "proven"));
                let wrong = [Kind::Divergence, Kind::Contradiction].into_iter().find(|other| *other != kind);
                refused(&Bundle { kind: wrong.unwrap(), ..bundle }, "whose heads");
            }
        }
    }
}

#[test]
fn another_size_alone_is_another_word() {
    let party = |name, size| {
        let entry = Record { spec: spec(), size, sum: sum(1) }.to_text();
        Log::saying(name, Source::Log, entry).word()
    };
    assert!(Bundle::words(now(), spec(), [party("a.example", 5), party("b.example", 6)], None).is_ok());
    fails(spec(), [party("a.example", 5), party("b.example", 5)], "both words are the same");
}

#[test]
fn what_is_no_difference_is_not_proven() {
    let party = |name, source, entry| Log::saying(name, source, entry).word();
    let one = || party("a.example", Source::Claims, claim(1));
    fails(spec(), [one(), party("b.example", Source::Log, record(1))], "both words are the same");
    let cannot = claim_of(Finding::CannotBuild { class: Class::Cgo, detail: "x".into() });
    fails(spec(), [one(), party("b.example", Source::Claims, cannot)], "names no sum");
    let other: Spec = "example.com/m@v1.0.1/cmd/x/linux-amd64-go1.27.1/".parse().unwrap();
    fails(other.clone(), [one(), party("b.example", Source::Log, record(2))], "it is of example.com/m@v1.0.0");
    let of_other = Record { spec: other, size: 7, sum: sum(7) }.to_text();
    fails(spec(), [one(), party("b.example", Source::Log, of_other)], "it is of example.com/m@v1.0.1");
    fails(spec(), [one(), party("b.example", Source::Log, claim(2))], "is not a record");
    fails(spec(), [one(), party("b.example", Source::Claims, record(2))], "is not a claim");
    let mut bare = party("b.example", Source::Log, record(2));
    bare.entry = None;
    fails(spec(), [one(), bare], "there is none");
}

#[test]
fn an_entry_needs_its_own_number_proof_and_head() {
    let good = Bundle { comparison: None, ..divergence() };
    let with = |change: &dyn Fn(&mut Vec<Party>)| {
        let mut bundle = good.clone();
        change(&mut bundle.parties);
        bundle
    };
    let entry = |parties: &mut Vec<Party>, change: &dyn Fn(&mut Entry)| change(parties[0].entry.as_mut().unwrap());
    for number in [0, 5, 7, u64::MAX] {
        refused(&with(&|parties| entry(parties, &|entry| entry.number = number)), "proof");
    }
    refused(&with(&|parties| entry(parties, &|entry| entry.inclusion_proof.clear())), "proof");
    refused(&with(&|parties| entry(parties, &|entry| entry.inclusion_proof.reverse())), "proof");
    refused(&with(&|parties| entry(parties, &|entry| entry.inclusion_proof.push(Hash([0; 32])))), "proof");
    refused(&with(&|parties| entry(parties, &|entry| entry.inclusion_proof[0].0[3] ^= 1)), "proof");
    refused(&with(&|parties| entry(parties, &|entry| entry.text = claim(3))), "proof");
    refused(&with(&|parties| entry(parties, &|entry| entry.text = entry.text.trim_end().to_owned())), "proof");
    let swap = |change: &dyn Fn(&mut Party, &mut Party)| {
        with(&|parties| {
            let [one, other] = parties.as_mut_slice() else { panic!("two") };
            change(one, other);
        })
    };
    refused(&swap(&|one, other| std::mem::swap(&mut one.entry, &mut other.entry)), "proof");
    refused(&swap(&|one, other| std::mem::swap(&mut one.head, &mut other.head)), "no signature of a known key");
    refused(&swap(&|one, other| std::mem::swap(&mut one.vkey, &mut other.vkey)), "no signature of a known key");
    refused(&swap(&|one, other| std::mem::swap(&mut one.source, &mut other.source)), "a log of");
    refused(&swap(&|one, other| other.clone_from(one)), "whose heads");
    assert_eq!(word(swap(&|one, other| std::mem::swap(one, other)).encode().as_bytes()), "proven");
}

#[test]
fn one_key_pair_under_two_names_is_neither_one_party_nor_two() {
    let mut other = Log::saying("a.example", Source::Log, record(2));
    other.key = other.key.as_name("b.example");
    let parties = [Log::saying("a.example", Source::Log, record(1)).word(), other.word()];
    fails(spec(), parties, "under two names");
}

#[test]
fn a_wrong_copy_is_shown() {
    let judgement = check(mirror().encode().as_bytes(), &[]);
    assert!(judgement.starts_with("shown") && judgement.contains("a.example/claims signed"), "{judgement}");
    let mut other = mirror();
    other.parties[0] = Log::saying("a.example", Source::Claims, "{}\n".into()).word();
    refused(&other, "is not a claim");
}

#[test]
fn demanded_keys_must_have_signed() {
    let file = divergence().encode();
    let (one, other) = (key("a.example").verifier(), key("b.example").verifier());
    let stranger = SignerKey::generate("a.example", [9; 32]).unwrap().verifier();
    let of_claims = one.as_name("a.example/claims");
    let (both, claims) = (vec![other.clone(), one.clone()], vec![of_claims, other.clone()]);
    for demanded in [Vec::new(), vec![one.clone()], both, claims] {
        assert!(check(file.as_bytes(), &demanded).starts_with("proven"), "{demanded:?}");
    }
    // A node is known by any of its three names.
    assert!(check(file.as_bytes(), &[one.as_name("a.example/log")]).starts_with("proven"));
    for missing in [stranger.clone(), one.as_name("b.example"), one.as_name("a.example/other")] {
        let judgement = check(file.as_bytes(), &[one.clone(), missing.clone()]);
        assert!(judgement.starts_with("tampered") && judgement.contains(&missing.to_string()), "{judgement}");
    }
    assert!(check(rollback().encode().as_bytes(), &[stranger]).starts_with("tampered"));
    let Judgement::Proven(statement) = verify(file.as_bytes(), &[]) else { panic!("proven") };
    assert_eq!(statement.keys, [one.as_name("a.example/claims"), other]);
}

#[test]
fn each_kind_has_its_own_parts() {
    for bundle in all() {
        for kind in Kind::ALL {
            let changed = Bundle { kind, ..bundle.clone() };
            let word = word(changed.encode().as_bytes());
            // Heads without tiles may be told in two ways, and none of them proves anything.
            let shows = (bundle.kind, kind) == (Kind::Rollback, Kind::Fork);
            assert_eq!(word == "tampered", kind != bundle.kind && !shows, "{} as {kind}: {word}", bundle.kind);
        }
        let mut one_less = bundle.clone();
        one_less.parties.pop();
        refused(&one_less, "");
        let mut one_more = bundle.clone();
        one_more.parties.push(bundle.parties[0].clone());
        refused(&one_more, "");
        let spec = if bundle.spec.is_some() { None } else { Some(spec()) };
        refused(&Bundle { spec, ..bundle.clone() }, "spec");
        if bundle.spec.is_some() {
            let tiles = fork(5, 9).tiles;
            refused(&Bundle { tiles, ..bundle.clone() }, "has no tiles");
        } else {
            let comparison = Some(serde_json::json!({}));
            refused(&Bundle { comparison, ..bundle.clone() }, "no binaries");
            let mut with_entry = bundle.clone();
            with_entry.parties[0].entry = divergence().parties[0].entry.clone();
            refused(&with_entry, "no entries");
        }
    }
}

#[test]
fn a_comparison_is_of_the_files_that_the_words_name() {
    let good = divergence();
    for numbers in [[1, 3], [2, 1], [1, 1]] {
        refused(&Bundle { comparison: Some(comparison(numbers).to_json()), ..good.clone() }, "other files");
    }
    let turned = comparison([2, 1]).reversed();
    let Judgement::Proven(statement) =
        verify(Bundle { comparison: Some(turned.to_json()), ..good }.encode().as_bytes(), &[])
    else {
        panic!("proven with the files exchanged back");
    };
    assert_eq!((statement.comparison.as_deref(), statement.names.len()), (Some(&turned), 2));
}
