//! A process that is killed at any moment. The test starts itself as that process.

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::Engine;
use crate::store::conformance::world::{World, tiny};
use crate::store::{Answer, Outcome};

const DIRECTORY: &str = "POSTRIDER_TEST_KILLED_DIRECTORY";
const THE_KILLED: &str = "store::engine::tests::kill::the_process_that_is_killed";

/// Alice sends to bob without end and says which message was acked; bob confirms what is older than 30 messages.
#[test]
fn the_process_that_is_killed() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let world = World::around(Arc::new(Engine::open(&tiny(Path::new(&directory))).expect("opens")));
    let alice = world.attach("alice", "phone");
    let bob = world.attach("bob", "phone");
    let mut out = std::io::stdout().lock();
    for id in alice.highest_send_id.0 + 1.. {
        world.acked(&alice, id, "bob", &format!("message {id} {}", "x".repeat(id as usize % 3000)));
        writeln!(out, "acked {id}").and_then(|()| out.flush()).expect("somebody reads");
        if id.is_multiple_of(10) && id > 30 {
            world.received(&bob, id - 30);
            writeln!(out, "confirmed {}", id - 30).and_then(|()| out.flush()).expect("somebody reads");
        }
    }
}

#[test]
fn a_killed_process_has_lost_nothing_that_it_acked() {
    let directory = tempfile::tempdir().unwrap();
    let (mut acked, mut confirmed) = (0, 0);
    for cycle in 0..12u64 {
        let mut killed = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", THE_KILLED, "--nocapture", "--test-threads=1"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let mut lines = BufReader::new(killed.stdout.take().expect("piped")).lines();
        let mut hear = |line: String, acked: &mut u64| {
            let Some((word, number)) = line.rsplit_once(' ') else { return };
            match (word.rsplit(' ').next(), number.parse()) {
                (Some("acked"), Ok(number)) => *acked = number,
                (Some("confirmed"), Ok(number)) => confirmed = number,
                _ => {}
            }
        };
        let enough = acked + 1 + (cycle * 37) % 90;
        while acked < enough {
            hear(lines.next().expect("it goes on").expect("text"), &mut acked);
        }
        killed.kill().expect("it runs");
        killed.wait().expect("it is dead");
        for line in lines.map_while(Result::ok) {
            hear(line, &mut acked);
        }

        let engine = Arc::new(Engine::open(&tiny(directory.path())).expect("opens"));
        let world = World::around(Arc::<Engine>::clone(&engine));
        super::audit::audit(&engine);
        let highest = world.attach("alice", "phone").highest_send_id.0;
        assert!(highest == acked || highest == acked + 1, "{acked} acked and {highest} there");
        let bob = world.attach("bob", "phone");
        assert!(
            bob.cursor.0 == confirmed || bob.cursor.0 == (highest / 10 * 10).saturating_sub(30),
            "{:?}",
            bob.cursor
        );
        let inbox = world.inbox(&bob);
        assert_eq!(inbox.len() as u64, highest - bob.cursor.0);
        for (id, entry) in (bob.cursor.0 + 1..).zip(&inbox) {
            let text = format!("{id} 1.{id} alice>bob message {id} {}", "x".repeat(id as usize % 3000));
            assert_eq!(*entry, text);
        }
        if highest > 0 {
            let again = world.send(
                &alice_of(&world),
                highest,
                "bob",
                &format!("message {highest} {}", "x".repeat(highest as usize % 3000)),
            );
            assert!(matches!(again, Outcome::Answer(Answer::Ack { seq, .. }) if seq.0 == highest), "{again:?}");
        }
    }
    assert!(acked > 100, "{acked} messages prove little");
}

fn alice_of(world: &World) -> crate::store::Attached {
    world.attach("alice", "phone")
}
