//! `get` against a server that lies in one way at a time: whatever it does, no false byte reaches the disk.

mod world;

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use axum::http::StatusCode;

use super::super::Exit;
use super::{Installed, Refusal, Talk, get};
use crate::model::Sum;
use crate::tlog::SignerKey;

use self::world::{EXACT, Node, PROGRAM, SPEC, World, files, parse, record};

#[tokio::test]
async fn an_honest_log_gives_the_program() {
    let world = World::new([Node::new("up.example", 300, 400)]).await;
    let installed = world.gets(EXACT).await;
    assert_eq!((installed.proofs[0].number, world.last_head(0)), (300, Some(701)));
    let described = super::describe(&installed);
    assert_eq!((&described["number"], &described["spec"]), (&300.into(), &SPEC.into()));
    assert_eq!(described["logs"][0]["head"], described["head"]);
    // Again, larger, uncompressed, by sum, and latest of a path that does not say where the module ends.
    world.gets(EXACT).await;
    world.lie(0, |node| {
        node.entries = Node::new("up.example", 300, 800).entries;
        node.no_gz = true;
    });
    let sum = installed.record.sum;
    world.gets(&format!("--sum {sum} {EXACT}")).await;
    assert_eq!(world.last_head(0), Some(1101));
    world.gets("--target linux/amd64 --goversion go1.26.1 example.com/tool/cmd/tool").await;
}

#[tokio::test]
async fn the_program_is_executable_and_replaces_what_was_there() {
    let world = World::new([Node::new("up.example", 0, 0)]).await;
    let file = world.bin().join("mine");
    std::fs::write(&file, "old").unwrap();
    let installed = world.try_get_to(&file, EXACT).await.unwrap();
    assert_eq!(installed.file, file);
    assert_eq!(std::fs::read(&file).unwrap(), PROGRAM);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o755);

    // What was there stays whole if it comes to nothing.
    std::fs::write(&file, "old").unwrap();
    world.lie(0, |node| node.file[9] ^= 1);
    assert!(world.try_get_to(&file, EXACT).await.is_err());
    assert_eq!((std::fs::read(&file).unwrap(), files(&world.bin())), (b"old".to_vec(), vec!["mine".to_owned()]));
}

#[tokio::test]
async fn each_lie_is_refused() {
    use Exit::{Divergence, Failure};
    // The bytes, compressed or not.
    refused(|n| n.file[9] ^= 1, Divergence, "its sum is").await;
    refused(|n| n.file.push(0), Divergence, "longer").await;
    refused(|n| n.file.truncate(7), Divergence, "missing").await;
    refused(|n| n.file = vec![0; 50 << 20], Divergence, "longer").await;
    refused(|n| n.bad_gz = true, Divergence, "what 127.0.0.1").await;
    refused(|n| (n.no_gz, n.file[9]) = (true, 0), Divergence, "its sum is").await;
    refused(|n| (n.no_gz, n.file) = (true, vec![0; 50 << 20]), Divergence, "longer").await;
    refused(|n| n.cut = true, Failure, "broke off").await;
    // The log.
    let stranger = || SignerKey::generate("up.example", [9; 32]).unwrap();
    refused(|n| n.forger = Some(stranger()), Divergence, "did not sign").await;
    refused(|n| n.flip_signature = true, Divergence, "did not sign").await;
    refused(|n| n.other_answer = Some(0), Divergence, "answered with").await;
    refused(|n| n.shown = Some(300), Divergence, "under a head of only").await;
    refused(|n| n.shift = 1, Divergence, "is not number 301").await;
    refused(|n| n.bad_tile = Some(0), Divergence, "do not fit the head").await;
    refused(|n| n.bad_tile = Some(1), Divergence, "do not fit the head").await;
    refused(|n| n.no_tiles = true, Failure, "no such tile").await;
    // What it says in place of an answer.
    let instead = |status, body: &str| {
        let answer = (status, body.to_owned());
        move |n: &mut Node| n.refusal = Some(answer)
    };
    refused(instead(StatusCode::CONFLICT, "see /divergences/7"), Divergence, "/divergences/7").await;
    refused(instead(StatusCode::NOT_FOUND, "no such \x1b[31m"), Failure, "no such  [31m").await;
    refused(instead(StatusCode::OK, "<html>"), Failure, "nonsense").await;
    refused(instead(StatusCode::OK, &"0".repeat(70 << 10)), Failure, "longer than").await;
    refused(instead(StatusCode::FOUND, "over there"), Failure, "302").await;
}

async fn refused(lie: impl FnOnce(&mut Node), exit: Exit, says: &str) {
    let world = World::new([Node::new("up.example", 300, 400)]).await;
    world.lie(0, lie);
    world.refuses(&format!("--timeout 20s {EXACT}"), exit, says).await;
}

#[tokio::test]
async fn an_interrupted_run_leaves_nothing() {
    let world = World::new([Node::new("up.example", 3, 4)]).await;
    world.lie(0, |node| node.stall = true);
    let stopped = tokio::time::timeout(Duration::from_millis(500), world.try_get(EXACT)).await;
    assert!(stopped.is_err(), "it should still be waiting for the rest");
    assert_eq!(files(&world.bin()), Vec::<String>::new());
}

#[tokio::test]
async fn what_makes_no_sense_is_asked_of_nobody() {
    let world = World::new([Node::new("up.example", 3, 4)]).await;
    world.lie(0, |node| node.refusal = Some((StatusCode::IM_A_TEAPOT, String::new())));
    let go = "--target linux/amd64 --goversion go1.26.1";
    world.refuses("--target js/wasm --goversion go1.4 example.com/tool", Exit::Usage, "js/wasm").await;
    world.refuses(&format!("{go} --url http://127.0.0.1:1 example.com/tool"), Exit::Usage, "--key").await;
}

#[tokio::test]
async fn a_fork_shows_whatever_the_size() {
    for after in [100, 400, 900] {
        let world = World::new([Node::new("up.example", 300, 400)]).await;
        world.gets(EXACT).await;
        world.lie(0, |node| {
            node.entries = Node::new("up.example", 300, after).entries;
            node.entries[17] = node.entries[17].replace("v1.0.17", "v6.6.6+incompatible");
        });
        world.refuses(EXACT, Exit::Divergence, "no single log has both of these heads").await;
        // The evidence is both heads, and the first one stays.
        world.refuses(EXACT, Exit::Divergence, "\n701\n").await;
        world.refuses(EXACT, Exit::Divergence, &format!("\n{}\n", 301 + after)).await;
        assert_eq!(world.last_head(0), Some(701));
    }
}

#[tokio::test]
async fn a_log_that_went_back_is_refused_and_an_old_head_of_the_same_log_is_not() {
    let world = World::new([Node::new("up.example", 300, 400)]).await;
    world.gets(EXACT).await;
    world.lie(0, |node| node.shown = Some(500));
    world.gets(EXACT).await;
    assert_eq!(world.last_head(0), Some(701), "the larger head is kept");
    world.lie(0, |node| node.entries.truncate(500));
    world.refuses(EXACT, Exit::Divergence, "has gone back").await;
    assert_eq!(world.last_head(0), Some(701));
}

#[tokio::test]
async fn a_damaged_head_is_not_taken_for_no_history() {
    let world = World::new([Node::new("up.example", 3, 4)]).await;
    world.gets(EXACT).await;
    let file = files(&world.places().heads).into_iter().find(|name| name.ends_with(".json")).unwrap();
    std::fs::write(world.places().heads.join(file), "").unwrap();
    world.refuses(EXACT, Exit::Failure, "is damaged").await;
}

#[tokio::test]
async fn a_sum_that_was_pinned_is_demanded() {
    let world = World::new([Node::new("up.example", 3, 4)]).await;
    let other = Sum::from_bytes([7; 20]);
    world.refuses(&format!("--sum {other} {EXACT}"), Exit::Divergence, "the sum should be").await;
}

#[tokio::test]
async fn logs_must_agree_and_all_must_answer() {
    let nodes = || [Node::new("up.example", 3, 4), Node::new("other.example", 10, 0)];
    let world = World::new(nodes()).await;
    assert_eq!(world.gets(EXACT).await.proofs.len(), 2);
    let latest = EXACT.replace("v1.2.3", "latest");
    assert_eq!(world.gets(&latest).await.proofs.len(), 2);
    // One that has no copy does not matter, as long as another has.
    world.lie(0, |node| node.cut = true);
    world.gets(&format!("--timeout 60s {EXACT}")).await;

    let world = World::new(nodes()).await;
    world.lie(1, |node| {
        let other = record(SPEC.parse().unwrap(), b"something else");
        node.entries[10] = other.to_text();
    });
    world.refuses(EXACT, Exit::Divergence, "the logs do not agree").await;

    let world = World::new(nodes()).await;
    world.lie(1, |node| node.refusal = Some((StatusCode::FORBIDDEN, "go away".to_owned())));
    world.refuses(EXACT, Exit::Incomplete, "go away").await;
}

#[tokio::test]
async fn a_busy_server_is_asked_again_until_time_is_up() {
    let world = World::new([Node::new("up.example", 3, 4)]).await;
    world.lie(0, |node| node.busy = 1);
    world.gets(EXACT).await;
    world.lie(0, |node| node.busy = 1000);
    world.refuses(&format!("--timeout 2s {EXACT}"), Exit::Failure, "waiting for b").await;
}

#[tokio::test]
async fn two_runs_at_once_keep_the_larger_head() {
    let world = World::new([Node::new("up.example", 3, 40)]).await;
    world.lie(0, |node| (node.shown, node.climb) = (Some(10), 3));
    let runs = (0..8).map(|run| {
        let (world, file) = (&world, world.home.path().join(format!("run{run}")));
        async move { world.try_get_to(&file, EXACT).await.unwrap() }
    });
    let done = futures_util::future::join_all(runs).await;
    let sizes: std::collections::BTreeSet<_> = done.iter().map(|run| run.proofs[0].head.size).collect();
    assert_eq!(sizes.len(), 8, "each run saw another head");
    let largest = done.iter().map(|installed| installed.proofs[0].head.size.get()).max();
    assert_eq!(world.last_head(0), largest);
}

#[tokio::test]
async fn the_list_of_logs_stands_in_for_the_arguments() {
    let world = World::new([Node::new("up.example", 3, 4)]).await;
    let words = format!("get {EXACT} --output {}", world.bin().display());
    let args = parse(&words.split(' ').map(str::to_owned).collect::<Vec<_>>());
    let run = || async { get(&args, &world.places(), &Talk::new()).await };
    let told = |refusal: Result<Installed, Refusal>| match refusal {
        Err(refusal) => (refusal.exit(), refusal.to_string()),
        Ok(_) => (Exit::Ok, String::new()),
    };
    let (exit, said) = told(run().await);
    assert!(exit == Exit::Usage && said.contains("[[log]]"), "{said}");

    let key = world.nodes[0].lock().unwrap().signer.verifier();
    let list = format!("[[log]]\nurl = \"{}\"\nkey = \"{key}\"\n", world.urls[0]);
    std::fs::write(world.places().config, format!("{list}kee = 1\n")).unwrap();
    let (exit, said) = told(run().await);
    assert!(exit == Exit::Usage && said.contains("unknown field `kee`"), "{said}");
    std::fs::write(world.places().config, format!("{list}{list}")).unwrap();
    let (exit, said) = told(run().await);
    assert!(exit == Exit::Usage && said.contains("given twice"), "{said}");
    std::fs::write(world.places().config, list).unwrap();
    assert_eq!(told(run().await).0, Exit::Ok);
}
