//! What a node counts for whoever watches it. Each number is written by one of its threads and may be read at any time; nothing
//! that the node does depends on them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of a histogram's buckets, in microseconds: from 50 µs, each twice the one before, up to 26 s.
pub const BOUNDS_US: [u64; 20] = {
    let mut bounds = [50; 20];
    let mut at = 1;
    while at < bounds.len() {
        bounds[at] = 2 * bounds[at - 1];
        at += 1;
    }
    bounds
};

/// All numbers of one node.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Elections that this node has begun.
    pub elections: Counter,
    /// Elections that it has won.
    pub elections_won: Counter,
    /// How long the disk takes to make a batch of the log durable.
    pub sync: Histogram,
    /// Bytes of commands written to the log.
    pub log_bytes: Counter,
    /// From a proposal of a client of this leader, or of one that was forwarded to it, to its commitment.
    pub commit: Histogram,
    /// Requests refused because too many wait in the inbox.
    pub inbox_full: Counter,
    /// Requests refused because too many, or too many bytes of them, wait for an answer.
    pub too_much_unanswered: Counter,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// So many more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// How many so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How often something took how long.
#[derive(Debug, Default)]
pub struct Histogram {
    /// Up to each bound, and beyond the last.
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    /// It took this long.
    pub fn observe(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|bound| *bound < us);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// How often up to each bound and not up to the one before, and beyond the last.
    pub fn counts(&self) -> [u64; BOUNDS_US.len() + 1] {
        std::array::from_fn(|bucket| self.buckets[bucket].load(Ordering::Relaxed))
    }

    /// How long all of it took.
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_us.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_up_to_the_first_bound_that_it_does_not_exceed() {
        let histogram = Histogram::default();
        let all = [0, 50, 51, 100, 26_214_400, 26_214_401, 100_000_000];
        all.iter().for_each(|us| histogram.observe(Duration::from_micros(*us)));
        let counts = histogram.counts();
        assert_eq!((BOUNDS_US[0], BOUNDS_US[1], BOUNDS_US[19]), (50, 100, 26_214_400));
        assert_eq!((counts[0], counts[1], counts[19], counts[20]), (2, 2, 1, 2));
        assert_eq!(counts.iter().sum::<u64>(), all.len() as u64);
        assert_eq!(histogram.sum(), Duration::from_micros(all.iter().sum()));
    }
}
