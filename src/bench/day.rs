//! A day of a big service, squeezed into minutes: when each person is there, and when each message is sent.
//!
//! Over the day the rate swells and ebbs as a sine does, and on its peak it jumps once, as when something happens that
//! everybody talks about. Everybody comes and goes in turn: there for half of a cycle, away for the other half, each at
//! a point of the cycle of their own. People write while they are there.

use std::f64::consts::TAU;
use std::sync::Arc;
use std::time::Duration;

/// Steps of the curve.
const STEPS: usize = 1000;

/// How far the rate swells above its average, and ebbs below it.
const SWELL: f64 = 0.6;

/// The part of the day that the jump takes, around noon.
const SPIKE: (f64, f64) = (0.48, 0.52);

/// What the rate is multiplied by in the jump.
const SPIKE_FACTOR: f64 = 1.35;

/// Spreads points over an interval evenly, however many there are.
const GOLDEN: f64 = 0.618_033_988_749_895;

/// Who is there, and who writes, when.
#[derive(Clone, Debug)]
pub struct Day {
    start: Duration,
    length: f64,
    messages: u64,
    /// Seconds from one coming to the next.
    cycle: f64,
    /// The part of all messages that is sent by each step of the day; from 0 to 1.
    sent_by: Arc<[f64]>,
}

impl Day {
    /// From `start` on. Everybody sends so many messages, and comes so many times; both at least one.
    #[must_use]
    pub fn new(start: Duration, length: Duration, messages: u64, comings: u32) -> Self {
        let mut sum = 0.0;
        let mut sent_by: Vec<f64> = vec![0.0];
        sent_by.extend((0..STEPS).map(|step| {
            sum += weight((step as f64 + 0.5) / STEPS as f64);
            sum
        }));
        sent_by.iter_mut().for_each(|sent| *sent /= sum);
        let length = length.as_secs_f64();
        Self { start, length, messages, cycle: length / f64::from(comings), sent_by: sent_by.into() }
    }

    /// When a person's `nth` message is due, from 0; `None` after the last.
    #[must_use]
    pub fn due(&self, person: u32, nth: u64) -> Option<Duration> {
        if nth >= self.messages {
            return None;
        }
        let stays: Vec<_> = self.stays(person).collect();
        let sent_in = |&(from, to): &(f64, f64)| self.sent_by(to) - self.sent_by(from);
        let mut left = (nth as f64 + spread(person, 1)) / self.messages as f64 * stays.iter().map(sent_in).sum::<f64>();
        for stay in &stays {
            let here = sent_in(stay);
            if left < here {
                return Some(self.at(self.time_by(self.sent_by(stay.0) + left).clamp(stay.0, stay.1)));
            }
            left -= here;
        }
        // Rounding has eaten it up.
        stays.last().map(|stay| self.at(stay.1))
    }

    /// Whether a person is there.
    #[must_use]
    pub fn is_there(&self, person: u32, now: Duration) -> bool {
        let into = now.saturating_sub(self.start).as_secs_f64() - self.phase(person);
        into.rem_euclid(self.cycle) < self.cycle / 2.0
    }

    /// Everything that happens to this many people, in order: messages that are due, comings and goings.
    #[must_use]
    pub fn events(&self, people: u32) -> Vec<(Duration, usize)> {
        let turns = (2.0 * self.length / self.cycle).ceil() as i64 + 2;
        let mut events = Vec::new();
        for person in 0..people {
            let due = (0..self.messages).filter_map(|nth| self.due(person, nth));
            let turns = (0..turns).map(|turn| self.phase(person) + (turn - 1) as f64 * self.cycle / 2.0);
            let turns = turns.filter(|turn| *turn > 0.0).map(|turn| self.at(turn));
            events.extend(due.chain(turns).map(|at| (at, person as usize)));
        }
        events.sort_unstable();
        events
    }

    /// When the rate jumps, and when it falls back.
    #[must_use]
    pub fn spike(&self) -> (Duration, Duration) {
        (self.at(SPIKE.0 * self.length), self.at(SPIKE.1 * self.length))
    }

    /// When the day ends: the last message is due by then.
    #[must_use]
    pub fn end(&self) -> Duration {
        self.at(self.length)
    }

    fn at(&self, seconds: f64) -> Duration {
        self.start + Duration::from_secs_f64(seconds.max(0.0))
    }

    fn phase(&self, person: u32) -> f64 {
        spread(person, 0) * self.cycle
    }

    /// When a person comes and goes, within the day; in seconds.
    fn stays(&self, person: u32) -> impl Iterator<Item = (f64, f64)> {
        let first = self.phase(person) - self.cycle;
        let comings = (0..).map(move |n| first + f64::from(n) * self.cycle).take_while(|from| *from < self.length);
        let stays = comings.map(|from| (from.max(0.0), (from + self.cycle / 2.0).min(self.length)));
        stays.filter(|(from, to)| from < to)
    }

    /// The part of all messages that would be sent by then, if everybody were there.
    fn sent_by(&self, seconds: f64) -> f64 {
        let step = (seconds / self.length * STEPS as f64).clamp(0.0, STEPS as f64);
        let whole = (step as usize).min(STEPS - 1);
        let (before, after) = (self.sent_by[whole], self.sent_by[whole + 1]);
        before + (step - whole as f64) * (after - before)
    }

    /// By when that would be; in seconds.
    fn time_by(&self, part: f64) -> f64 {
        let step = self.sent_by.partition_point(|sent| *sent <= part).clamp(1, STEPS);
        let (before, after) = (self.sent_by[step - 1], self.sent_by[step]);
        ((step - 1) as f64 + ((part - before) / (after - before)).clamp(0.0, 1.0)) / STEPS as f64 * self.length
    }
}

/// The rate at that part of the day; 1 is the average without the jump.
fn weight(part: f64) -> f64 {
    let swell = 1.0 - SWELL * (TAU * part).cos();
    if (SPIKE.0..SPIKE.1).contains(&part) { swell * SPIKE_FACTOR } else { swell }
}

/// From 0 up to 1, another for each person, and evenly spread over them.
fn spread(person: u32, salt: u32) -> f64 {
    (f64::from(person) * GOLDEN + f64::from(salt) * 0.37).fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEOPLE: u32 = 500;

    fn day() -> Day {
        Day::new(Duration::from_secs(7), Duration::from_secs(100), 40, 5)
    }

    fn all_due(day: &Day) -> Vec<f64> {
        let due = (0..PEOPLE).flat_map(|person| (0..40).map(move |nth| (person, nth)));
        due.map(|(person, nth)| day.due(person, nth).unwrap().as_secs_f64() - 7.0).collect()
    }

    #[test]
    fn people_write_in_order_and_only_while_they_are_there() {
        let day = day();
        for person in 0..PEOPLE {
            let due: Vec<_> = (0..40).map(|nth| day.due(person, nth).unwrap()).collect();
            assert!(due.is_sorted(), "{person}: {due:?}");
            for (nth, at) in due.iter().enumerate() {
                // At the very edge rounding decides.
                let near = [*at, *at + Duration::from_micros(1), *at - Duration::from_micros(1)];
                assert!(near.iter().any(|at| day.is_there(person, *at)), "{person} {nth} {at:?}");
            }
            assert_eq!(day.due(person, 40), None);
            assert!(due[39] <= day.end());
        }
    }

    #[test]
    fn half_of_all_are_there_at_any_time() {
        let day = day();
        for second in 0..110 {
            let there = (0..PEOPLE).filter(|person| day.is_there(*person, Duration::from_secs(7 + second))).count();
            assert!((230..=270).contains(&there), "{there} in second {second}");
        }
    }

    #[test]
    fn the_rate_swells_to_noon_and_jumps_there_by_the_third_that_it_should() {
        let day = day();
        let due = all_due(&day);
        let rate = |from: f64, to: f64| due.iter().filter(|at| (from..to).contains(*at)).count() as f64 / (to - from);
        let spike = rate(48.0, 52.0) / (rate(43.0, 47.0) + rate(53.0, 57.0)) * 2.0;
        assert!((1.25..1.5).contains(&spike), "{spike}");
        assert!(rate(45.0, 55.0) > 2.0 * rate(5.0, 20.0), "{} {}", rate(45.0, 55.0), rate(5.0, 20.0));
    }

    #[test]
    fn events_have_every_message_and_every_coming_and_going() {
        let day = day();
        let events = day.events(3);
        assert!(events.is_sorted());
        for person in 0..3 {
            let mine: Vec<_> = events.iter().filter(|(_, of)| *of == person).map(|(at, _)| *at).collect();
            assert!((0..40).all(|nth| mine.contains(&day.due(person as u32, nth).unwrap())));
            let there = |ms: u64| day.is_there(person as u32, Duration::from_millis(7_000 + ms));
            for ms in (0..100_000).filter(|ms| there(*ms) != there(ms + 1)) {
                let (from, to) = (Duration::from_millis(7_000 + ms), Duration::from_millis(7_001 + ms));
                assert!(mine.iter().any(|at| (from..=to).contains(at)), "{person} turns at {ms}");
            }
        }
    }
}
