//! A day of a big service in small: everybody sends so many messages, comes and goes, reads what came; half of all are
//! away at any time, the rate swells to noon and jumps there.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Run;
use crate::bench::BenchError;
use crate::bench::control::Stage;
use crate::bench::day::Day;
use crate::bench::findings::{Findings, Found, Mark};
use crate::bench::member::{Hours, Member};
use crate::bench::meter::Phase;
use crate::bench::pacer::Schedule;
use crate::bench::part::{Actor, Pace, Pair, Recipient, Sender, Until, Wishes};
use crate::bench::report::{Report, microseconds_each};

/// For the first half to connect before the day begins.
const DAWN: Duration = Duration::from_millis(500);

/// And for each user so much.
const DAWN_EACH: Duration = Duration::from_millis(2);

/// How many people, and what they do in a day.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mixed {
    /// People.
    pub users: u32,
    /// Messages of each in a day.
    pub messages: u32,
    /// How often each comes in a day.
    pub comings: u32,
    /// To how many others each writes.
    pub contacts: u32,
    /// Bytes of a message's content.
    pub size: usize,
    /// How long the day takes.
    pub duration: Duration,
}

impl Mixed {
    pub(super) fn report(&self, found: &Found) -> Report {
        let whole = found.between(Mark::Begin, Mark::End);
        let made = found.connected(Phase::Main);
        Report {
            users: Some(self.users),
            size: Some(self.size),
            connect_ms: found.logins(Phase::Main),
            spike_latency_ms: found.latencies(Phase::First),
            generator_cpu_us_per_message: microseconds_each(whole.own_cpu, whole.messages),
            logins_per_message: (whole.messages > 0)
                .then(|| (made as f64 / whole.messages as f64 * 1000.0).round() / 1000.0),
            ..found.report_of_messages("mixed", self.users.into())
        }
    }
}

impl Run {
    pub(super) async fn mixed(&self, mixed: &Mixed) -> Result<Findings, BenchError> {
        let (mut crew, mut findings) = (self.crew(), Findings::default());
        self.live.count("connecting", "connections", &self.up);
        let (today, schedule) = (Arc::new(OnceLock::new()), Arc::new(OnceLock::new()));
        let people = self.people(mixed, &today, &schedule);
        let dawn = self.clock.elapsed() + DAWN + DAWN_EACH * mixed.users;
        let day = Arc::new(Day::new(dawn, mixed.duration, mixed.messages.into(), mixed.comings));
        // Nobody else sets them.
        drop((today.set(Arc::clone(&day)), schedule.set(Schedule::Day(Arc::clone(&day)))));
        let events = day.events(mixed.users);
        let ramped = crew.ramp(people).await?;
        self.sleep_until(dawn).await;

        self.mark(Mark::Begin, &mut findings).await;
        let pacer = self.pace(&crew, ramped.bells, events.into_iter());
        self.meter.open(Phase::Main, dawn);
        let (spike, calm) = day.spike();
        self.meter.open(Phase::First, spike);
        self.meter.close(Phase::First, calm);
        crew.enter(Stage::Run);
        self.live.messages("living a day", &self.meter);
        self.sleep_until(day.end()).await;
        self.close(Phase::Main);
        self.mark(Mark::End, &mut findings).await;
        findings.connected.insert(Phase::Main, self.meter.returns_and_retries().0);
        findings.logins.insert(Phase::Main, self.meter.logins());

        // Now everybody comes.
        let home = self.finish(crew, mixed.users).await;
        drop(pacer.join());
        self.audit(&home, &mut findings);
        Ok(findings)
    }

    async fn sleep_until(&self, at: Duration) {
        tokio::time::sleep(at.saturating_sub(self.clock.elapsed())).await;
    }

    /// Everybody writes to those who come next after them, in a ring.
    fn people(&self, mixed: &Mixed, day: &Arc<OnceLock<Arc<Day>>>, schedule: &Arc<OnceLock<Schedule>>) -> Vec<Member> {
        let Mixed { users, messages, size, .. } = *mixed;
        // Nobody writes back in the same conversation: its numbers are then those of one direction.
        let contacts = mixed.contacts.clamp(1, (users.saturating_sub(1) / 2).max(1));
        let pairs = self.all_pairs(users * contacts);
        let person = |person: u32| {
            let to = (0..contacts).map(|n| {
                let pair = pairs[(person * contacts + n) as usize].clone();
                (pair, self.user('p', (person + n + 1) % users))
            });
            let from = (0..contacts).map(|n| (person + users - (n + 1) % users) % users * contacts + n);
            let from: Vec<Pair> = from.map(|index| pairs[index as usize].clone()).collect();
            let pace = Pace::Schedule(Arc::clone(schedule));
            let wishes = Wishes { size, pace, until: Until::Acked, reads: true, budget: messages.into() };
            let sender = Sender::new(to.collect(), wishes, person, Arc::clone(&self.meter));
            let recipient = Recipient::new(from, true, Arc::clone(&self.meter));
            let hours = Some(Hours { day: Arc::clone(day), person });
            Member { hours, ..Member::new(self.user('p', person), Actor::talking(sender, recipient)) }
        };
        (0..users).map(person).collect()
    }
}
