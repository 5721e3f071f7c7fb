//! What a run came to: counts, and how long answers took, as a whole and over time.

use std::collections::BTreeMap;
use std::time::Duration;

use super::options::Kind;
use crate::latencies::Latencies;

/// A run over time is told in so many parts, each as long as this at least and at most.
const PARTS: u32 = 400;
const SLOT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(250));

/// What a run came to.
pub struct Summary {
    /// How long was measured.
    pub time: Duration,
    /// What puts were answered.
    pub puts: Answers,
    /// What gets were answered.
    pub gets: Answers,
    /// Requests that failed, by the first word of the error; `LOST` and `TIMEOUT` with their connection, `PROTOCOL` because
    /// the answer was none to such a request.
    pub errors: BTreeMap<String, u64>,
    /// How often a connection was lost, or could not be made.
    pub lost_connections: u64,
    /// The run over time.
    pub slots: Vec<Slot>,
    /// How long a slot is.
    pub slot_time: Duration,
    /// The slot that is not over: what was answered in it, and how many failed.
    current: (Latencies, u64),
}

/// What requests of a kind were answered.
#[derive(Default)]
pub struct Answers {
    /// Those that were answered with nothing: no such key, an empty list.
    pub nil: u64,
    /// How long they took.
    pub times: Latencies,
}

/// A short part of a run. An answer belongs to the part in which it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// How many were answered.
    pub answered: u64,
    /// How many failed.
    pub failed: u64,
    /// Half of the answers took no longer.
    pub p50: Duration,
    /// 99 % of the answers took no longer.
    pub p99: Duration,
}

impl Summary {
    /// Nothing yet, of a run that is to be so long.
    pub(super) fn new(time: Duration) -> Self {
        Summary {
            time,
            puts: Answers::default(),
            gets: Answers::default(),
            errors: BTreeMap::new(),
            lost_connections: 0,
            slots: Vec::new(),
            slot_time: (time / PARTS).clamp(SLOT.0, SLOT.1),
            current: (Latencies::default(), 0),
        }
    }

    /// A request was answered, so long after the beginning.
    pub(super) fn answered(&mut self, kind: Kind, nil: bool, took: Duration, at: Duration) {
        self.close_slots(at);
        self.current.0.add(took);
        let answers = match kind {
            Kind::Put => &mut self.puts,
            Kind::Get => &mut self.gets,
        };
        answers.times.add(took);
        answers.nil += u64::from(nil);
    }

    /// A request failed, so long after the beginning.
    pub(super) fn failed(&mut self, word: &str, at: Duration) {
        self.close_slots(at);
        self.current.1 += 1;
        match self.errors.get_mut(word) {
            Some(count) => *count += 1,
            None => drop(self.errors.insert(word.to_owned(), 1)),
        }
    }

    /// Ends the slots before this time.
    pub(super) fn close_slots(&mut self, at: Duration) {
        while self.slot_time * (self.slots.len() as u32 + 1) <= at {
            let (times, failed) = &mut self.current;
            let [p50, p99] = [0.5, 0.99].map(|part| times.quantile(part));
            self.slots.push(Slot { answered: times.count(), failed: *failed, p50, p99 });
            times.clear();
            *failed = 0;
        }
    }

    /// Ends the run with all slots of the time measured, and if something came after that, with the slot in which the last of it
    /// came.
    pub(super) fn finish(&mut self) {
        self.close_slots(self.time);
        let (times, failed) = &self.current;
        if times.count() > 0 || *failed > 0 {
            self.close_slots(self.slot_time * (self.slots.len() as u32 + 1));
        }
    }

    /// All answers.
    pub fn all(&self) -> Answers {
        let mut times = self.puts.times.clone();
        times.add_all(&self.gets.times);
        Answers { nil: self.puts.nil + self.gets.nil, times }
    }

    /// How many requests were answered.
    pub fn answered_count(&self) -> u64 {
        self.puts.times.count() + self.gets.times.count()
    }

    /// How many requests failed.
    pub fn failed_count(&self) -> u64 {
        self.errors.values().sum()
    }

    /// So many a second.
    pub fn rate(&self, count: u64) -> f64 {
        count as f64 / self.time.as_secs_f64().max(1e-9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_and_failures_fall_into_their_slots() {
        let ms = Duration::from_millis;
        let mut summary = Summary::new(ms(400));
        summary.answered(Kind::Put, false, ms(1), ms(50));
        summary.answered(Kind::Get, true, ms(3), ms(99));
        summary.failed("LOST", ms(250));
        summary.failed("LOST", ms(251));
        summary.finish();
        let counts: Vec<_> = summary.slots.iter().map(|slot| (slot.answered, slot.failed)).collect();
        assert_eq!(counts, [(2, 0), (0, 0), (0, 2), (0, 0)]);
        assert_eq!(summary.slots[0].p50.as_micros() / 10, 100);
        assert_eq!((summary.answered_count(), summary.failed_count()), (2, 2));
        assert_eq!((summary.all().nil, summary.all().times.count()), (1, 2));
        assert_eq!(summary.all().times.max().as_micros() / 10, 300);
        assert_eq!(summary.rate(2), 5.0);
    }

    #[test]
    fn what_came_after_the_time_measured_is_told() {
        let ms = Duration::from_millis;
        let mut summary = Summary::new(ms(200));
        summary.answered(Kind::Put, false, ms(260), ms(320));
        summary.failed("TIMEOUT", ms(330));
        summary.finish();
        let counts: Vec<_> = summary.slots.iter().map(|slot| (slot.answered, slot.failed)).collect();
        assert_eq!(counts, [(0, 0), (0, 0), (0, 0), (1, 1)]);
        assert_eq!(summary.slots[3].p50.as_millis(), 260);
    }
}
