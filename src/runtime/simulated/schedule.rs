//! What will happen, in order of virtual time; what is due at the same time happens in the order in which it was planned.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Things to come.
pub struct Schedule<T> {
    due: BinaryHeap<Planned<T>>,
    next: u64,
}

struct Planned<T> {
    at: Duration,
    number: u64,
    what: T,
}

impl<T> Schedule<T> {
    /// Nothing.
    pub fn new() -> Self {
        Schedule { due: BinaryHeap::new(), next: 0 }
    }

    /// This is to happen at that time.
    pub fn at(&mut self, at: Duration, what: T) {
        self.due.push(Planned { at, number: self.next, what });
        self.next += 1;
    }

    /// The next thing, and when it happens.
    pub fn pop(&mut self) -> Option<(Duration, T)> {
        self.due.pop().map(|planned| (planned.at, planned.what))
    }
}

impl<T> Planned<T> {
    fn key(&self) -> (Duration, u64) {
        (self.at, self.number)
    }
}

// The heap gives out the greatest first.
impl<T> Ord for Planned<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.key().cmp(&self.key())
    }
}

impl<T> PartialOrd for Planned<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Planned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<T> Eq for Planned<T> {}
