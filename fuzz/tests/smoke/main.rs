//! Every target over its committed corpus and over some thousand variations of it, without a fuzzer: what a fuzzer would
//! find within its first second is found here, on any machine. And the seeds of the corpora are what the golden vectors
//! say.

#![allow(missing_docs, clippy::unwrap_used)]

mod seeds;
mod vary;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use postrider_fuzz::{Body, TARGETS, canary};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

/// Variations of each target's corpus; the heavy ones open files. `VARIATIONS=n` makes it n, of another kind each time.
const VARIATIONS: usize = 10_000;
const HEAVY: &[(&str, usize)] =
    &[("client_state", 2_000), ("store_history", 60), ("journal_replay", 60), ("journal_damage", 60)];

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let entries = std::fs::read_dir(&directory).unwrap_or_else(|why| panic!("{}: {why}", directory.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut corpus: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    if target == "config_file" {
        // The keys there are today, whatever there was when the corpus was made.
        let keys = postrider::config::REFERENCE;
        corpus.push(keys.into());
        corpus.push(keys.lines().flat_map(|line| [line.trim_start_matches("# "), "\n"]).collect::<String>().into());
    }
    corpus
}

/// The corpus, then variations of it. A failure is shown as the input that makes it.
fn smoke(target: &str, body: Body, variations: usize) {
    let corpus = corpus(target);
    assert!(corpus.len() >= 3, "the corpus of {target} is too small to prove anything");
    let wanted = std::env::var("VARIATIONS").ok().map(|number| number.parse().expect("VARIATIONS is a number"));
    let mut random = StdRng::seed_from_u64(if wanted.is_some() { rand::random() } else { 1 });
    let varied = std::iter::repeat_with(|| vary::vary(&corpus, &mut random)).take(wanted.unwrap_or(variations));
    for input in corpus.iter().cloned().chain(varied) {
        if catch_unwind(AssertUnwindSafe(|| body(&input))).is_err() {
            panic!("{target} fails on {input:?}");
        }
    }
}

macro_rules! targets {
    ($($target:ident),+ $(,)?) => {
        $(#[test]
        fn $target() {
            let (name, body) = TARGETS.iter().find(|(name, _)| *name == stringify!($target)).unwrap();
            let heavy = HEAVY.iter().find(|(heavy, _)| heavy == name);
            smoke(name, *body, heavy.map_or(VARIATIONS, |(_, variations)| *variations));
        })+

        #[test]
        fn every_target_is_smoked_and_has_a_fuzzer() {
            let smoked = [$(stringify!($target)),+];
            let manifest = include_str!("../../Cargo.toml");
            for (name, _) in TARGETS {
                assert!(smoked.contains(name), "{name} is not smoked");
            }
            for name in smoked.into_iter().chain(["canary"]) {
                assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} has no fuzzer");
                let main = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("fuzz_targets/{name}.rs"));
                assert!(std::fs::read_to_string(main).unwrap().contains(&format!("postrider_fuzz::{name}(data)")));
            }
        }
    };
}

targets!(
    frame_decoder,
    message_round_trip,
    server_session,
    client_session,
    session_pair,
    config_file,
    enrolment,
    client_state,
    store_history,
    journal_replay,
    journal_damage,
);

#[test]
fn the_canary_fails_as_it_must() {
    let corpus = corpus("frame_decoder");
    let mut random = StdRng::seed_from_u64(1);
    let found = (0..VARIATIONS).any(|_| {
        let input = vary::vary(&corpus, &mut random);
        catch_unwind(|| canary(&input)).is_err()
    });
    assert!(found, "a planted mistake is not found: these variations prove nothing");
}
