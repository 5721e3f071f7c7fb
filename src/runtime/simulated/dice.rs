//! The simulator's random numbers: one stream for each purpose, so that a change in one leaves the others as they were.

use std::time::Duration;

use crate::consensus::Random;

/// The servers' own generator, with the draws that a simulation needs.
#[derive(Clone, Debug)]
pub struct Dice(Random);

/// What is drawn out of: a million.
pub const MILLION: u64 = 1_000_000;

impl Dice {
    /// The stream of this purpose under this seed.
    pub fn new(seed: u64, purpose: &str) -> Self {
        let mixed = purpose.bytes().fold(seed ^ 0x6a09_e667_f3bc_c908, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(17)
        });
        let mut dice = Dice(Random::new(mixed));
        dice.number();
        dice
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0.number()
    }

    /// A number below the bound; 0 if that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0.below(bound)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True so often in a million times.
    pub fn in_a_million(&mut self, times: u64) -> bool {
        times > 0 && self.below(MILLION) < times
    }

    /// True once in so many times.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// A number from `low` to `high`, whose logarithm is evenly distributed.
    pub fn of_any_size(&mut self, low: u64, high: u64) -> u64 {
        let (low_log, high_log) = (low.max(1).ilog2(), high.max(1).ilog2());
        let bits = self.between(u64::from(low_log), u64::from(high_log));
        let floor = 1u64 << bits;
        self.between(floor, floor.saturating_mul(2) - 1).clamp(low, high)
    }

    /// A time with this mean, exponentially distributed, of ten times the mean at most.
    pub fn around(&mut self, mean: Duration) -> Duration {
        let uniform = (self.below(1 << 53) + 1) as f64 / (1u64 << 53) as f64;
        mean.mul_f64((-uniform.ln()).min(10.0))
    }

    /// One of these; there must be one.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }

    /// Some of these, in any order: each with an even chance.
    pub fn some<T: Copy>(&mut self, of: &[T]) -> Vec<T> {
        let mut some: Vec<T> = of.iter().filter(|_| self.once_in(2)).copied().collect();
        self.shuffle(&mut some);
        some
    }

    /// Puts these into any order.
    pub fn shuffle<T>(&mut self, these: &mut [T]) {
        for last in (1..these.len()).rev() {
            these.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}
