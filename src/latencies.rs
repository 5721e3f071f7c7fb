//! How long requests took: counted by time, to three digits.

use std::time::Duration;

use hdrhistogram::Histogram;

/// The longest time that is told apart.
const LONGEST: Duration = Duration::from_secs(3_600);

/// How long requests took, each to three digits, up to an hour.
#[derive(Clone)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        let bounded = Histogram::new_with_bounds(1, nanos(LONGEST), 3);
        Latencies(bounded.unwrap_or_else(|_| unreachable!("bounds that are fit")))
    }
}

impl Latencies {
    /// One more.
    pub fn add(&mut self, took: Duration) {
        self.0.saturating_record(nanos(took));
    }

    /// All of these, too.
    pub fn add_all(&mut self, others: &Latencies) {
        // They have the same bounds.
        let _ = self.0.add(&others.0);
    }

    /// None any more.
    pub fn clear(&mut self) {
        self.0.reset();
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// This part of all, from 0 to 1, took no longer.
    pub fn quantile(&self, part: f64) -> Duration {
        Duration::from_nanos(self.0.value_at_quantile(part))
    }

    /// What they took on average.
    pub fn mean(&self) -> Duration {
        Duration::from_nanos(self.0.mean() as u64)
    }

    /// The slowest.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.0.max())
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_kept_to_three_digits() {
        let (mut some, mut others) = (Latencies::default(), Latencies::default());
        (1..=500).for_each(|ms| some.add(Duration::from_millis(ms)));
        (501..=1_000).for_each(|ms| others.add(Duration::from_millis(ms)));
        some.add_all(&others);
        assert_eq!(some.count(), 1_000);
        for (part, ms) in [(0.5, 500), (0.99, 990), (1.0, 1_000)] {
            let found = some.quantile(part);
            assert!(found.abs_diff(Duration::from_millis(ms)) <= Duration::from_millis(ms) / 500, "{part}: {found:?}");
        }
        assert!(some.mean().abs_diff(Duration::from_micros(500_500)) < Duration::from_millis(1));
        some.add(Duration::from_secs(100_000));
        assert!(some.max().as_secs().abs_diff(3_600) < 10, "an hour at most: {:?}", some.max());
        some.clear();
        assert_eq!(some.count(), 0);
    }
}
