//! A generator process that another one leads: takes its share from stdin, and answers on stdout.

use std::io::BufRead as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::gate::{Answer, Gate, Led, Order};
use super::live::Live;
use super::preflight::Limits;
use super::scenario::Run;
use crate::clock::Clock;

/// How often it tells how it goes.
const TICK: Duration = Duration::from_millis(500);

/// Orders that wait to be read.
const ORDERS: usize = 16;

/// Does as it is told, until it is done or the leader is gone. True when it had something to tell.
pub async fn serve(clock: Clock) -> bool {
    // Raises what this process may have open.
    let _ = Limits::find();
    let (orders, mut ordered) = mpsc::channel(ORDERS);
    let (gone, leaderless) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let Ok(order) = serde_json::from_str::<Order>(&line) else { break };
            if orders.blocking_send(order).is_err() {
                break;
            }
        }
        drop(gone);
    });
    let Some(Order::Play(share)) = ordered.recv().await else { return false };
    let live = Arc::new(Live::default());
    let run = Run::play(*share, Gate::Led(Led::by(ordered)), clock, Arc::clone(&live));
    let answer = tokio::select! {
        found = run => match found {
            Ok(findings) => Answer::Found(Box::new(findings)),
            Err(error) => Answer::Failed(error.to_string()),
        },
        never = tell(&live) => match never {},
        _ = leaderless => return false,
    };
    answer.write().is_ok()
}

async fn tell(live: &Live) -> std::convert::Infallible {
    loop {
        tokio::time::sleep(TICK).await;
        let doing = live.doing();
        let count = doing.count();
        // A leader that does not read any more has closed stdin, too.
        drop(Answer::Doing { phase: doing.phase, unit: doing.unit, count }.write());
    }
}
