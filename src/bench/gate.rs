//! Where a generator process waits for the others of its run.

use std::io::{self, Write};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, mpsc};

use super::findings::{Findings, Mark};
use super::scenario::Share;
use super::watch::Watch;

/// Lets a process pass a mark when all have come to it.
pub enum Gate {
    /// There are no others.
    Alone(Arc<Watch>),
    /// There are, and somebody leads them.
    Led(Led),
}

/// A process's line to its leader.
pub struct Led {
    orders: Mutex<mpsc::Receiver<Order>>,
}

/// What a leader writes to a process's stdin, a line each; first of all the share.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// What to do.
    Play(Box<Share>),
    /// All have come to this mark.
    Pass(Mark),
}

/// What a process answers on stdout, a line each; last its findings, or why there are none.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// It has come to this mark.
    Reached(Mark),
    /// How it goes.
    Doing {
        /// What it is at.
        phase: String,
        /// Of what the count is.
        unit: String,
        /// How many so far.
        count: u64,
    },
    /// It is done.
    Found(Box<Findings>),
    /// It cannot go on.
    Failed(String),
}

impl Gate {
    /// Waits for the others.
    pub async fn pass(&self, mark: Mark) {
        match self {
            Self::Alone(watch) => watch.pass(mark),
            Self::Led(led) => {
                // A leader that is gone has closed stdin, too, which ends this process.
                drop(Answer::Reached(mark).write());
                let mut orders = led.orders.lock().await;
                while let Some(order) = orders.recv().await {
                    if matches!(order, Order::Pass(passed) if passed == mark) {
                        return;
                    }
                }
                std::future::pending().await
            }
        }
    }
}

impl Led {
    /// By whoever sends these.
    #[must_use]
    pub fn by(orders: mpsc::Receiver<Order>) -> Self {
        Self { orders: Mutex::new(orders) }
    }
}

impl Answer {
    /// Writes it to stdout.
    ///
    /// # Errors
    /// When nobody reads it.
    pub fn write(&self) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        serde_json::to_writer(&mut stdout, self)?;
        stdout.write_all(b"\n")?;
        stdout.flush()
    }
}
