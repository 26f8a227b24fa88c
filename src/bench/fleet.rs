//! The generator processes of a run that does not fit one: started, kept in step, and summed up.
//!
//! Each is this executable again, with a share of the scenario. They and their leader write lines of JSON: see
//! [`super::gate`].

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use tokio::sync::mpsc;

use super::BenchError;
use super::findings::{Findings, Mark};
use super::gate::{Answer, Order};
use super::live::Live;
use super::scenario::Share;
use super::watch::Watch;

/// The arguments that make this executable a generator process.
pub const WORKER_ARGUMENTS: [&str; 2] = ["bench", "worker"];

/// Answers that wait to be read.
const ANSWERS: usize = 256;

/// The processes. They end with this.
struct Fleet {
    ships: Vec<Ship>,
}

struct Ship {
    child: Child,
    orders: ChildStdin,
}

/// Lets a process do each share, and sums up what they found.
///
/// # Errors
/// The first thing that keeps one from its work.
pub async fn play(executable: &Path, shares: Vec<Share>, watch: &Watch, live: &Live) -> Result<Findings, BenchError> {
    let (answers, mut answered) = mpsc::channel(ANSWERS);
    let mut fleet = Fleet { ships: Vec::new() };
    for share in shares {
        fleet.launch(executable, share, answers.clone())?;
    }
    drop(answers);
    let all = fleet.ships.len();
    let mut reached: BTreeMap<Mark, usize> = BTreeMap::new();
    let (mut counts, mut home, mut findings) = (vec![0; all], 0, Findings::default());
    while home < all {
        // Each process says how it ends, and the channel lives until all have.
        let Some((index, answer)) = answered.recv().await else { break };
        match answer {
            Some(Answer::Reached(mark)) => {
                let here = reached.entry(mark).or_default();
                *here += 1;
                if *here == all {
                    watch.pass(mark);
                    fleet.order(&Order::Pass(mark))?;
                }
            }
            Some(Answer::Doing { phase, unit, count }) => {
                counts[index] = count;
                live.tell(phase, unit, counts.iter().sum());
            }
            Some(Answer::Found(found)) => {
                findings.merge(*found);
                home += 1;
            }
            Some(Answer::Failed(why)) => return Err(BenchError::Worker(why)),
            None => return Err(BenchError::Worker(format!("generator process {} of {all} ended early", index + 1))),
        }
    }
    Ok(findings)
}

impl Fleet {
    fn launch(
        &mut self,
        executable: &Path,
        share: Share,
        answers: mpsc::Sender<(usize, Option<Answer>)>,
    ) -> Result<(), BenchError> {
        let failed = |error: std::io::Error| BenchError::Worker(format!("cannot start a generator process: {error}"));
        let mut command = Command::new(executable);
        command.args(WORKER_ARGUMENTS).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let (Some(orders), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed(std::io::ErrorKind::BrokenPipe.into()));
        };
        let index = self.ships.len();
        self.ships.push(Ship { child, orders });
        // It ends when the process does.
        std::thread::spawn(move || {
            let mut found = false;
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // What is no answer of this version's is not for us.
                let Ok(answer) = serde_json::from_str(&line) else { continue };
                found = matches!(answer, Answer::Found(_));
                if answers.blocking_send((index, Some(answer))).is_err() {
                    return;
                }
            }
            if !found {
                drop(answers.blocking_send((index, None)));
            }
        });
        self.ships[index].order(&Order::Play(Box::new(share)))
    }

    fn order(&mut self, order: &Order) -> Result<(), BenchError> {
        self.ships.iter_mut().try_for_each(|ship| ship.order(order))
    }
}

impl Ship {
    fn order(&mut self, order: &Order) -> Result<(), BenchError> {
        let gone = |why: String| BenchError::Worker(format!("a generator process takes no orders: {why}"));
        let mut line = serde_json::to_vec(order).map_err(|error| gone(error.to_string()))?;
        line.push(b'\n');
        self.orders.write_all(&line).and_then(|()| self.orders.flush()).map_err(|error| gone(error.to_string()))
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for ship in &mut self.ships {
            // It may have ended by itself.
            drop(ship.child.kill());
            drop(ship.child.wait());
        }
    }
}
