//! Holds messages back until it is their time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A message on its way between nodes. The one that is due first comes first; of two that are due at once, the one sent first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Delayed {
    /// When it arrives.
    pub due: Instant,
    /// Its place among all that were delayed.
    number: u64,
    /// Who sent it.
    pub src: usize,
    /// Whom it is for.
    pub dest: usize,
    /// The message.
    pub line: Vec<u8>,
}

/// The messages on their way.
#[derive(Default)]
pub struct Delay {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: BinaryHeap<Reverse<Delayed>>,
    sent: u64,
    closed: bool,
}

impl Delay {
    /// Holds a message back.
    pub fn push(&self, due: Instant, src: usize, dest: usize, line: Vec<u8>) {
        let mut state = self.lock();
        let number = state.sent;
        state.sent += 1;
        let is_first = state.waiting.peek().is_none_or(|Reverse(first)| due < first.due);
        state.waiting.push(Reverse(Delayed { due, number, src, dest, line }));
        if is_first {
            self.changed.notify_one();
        }
    }

    /// Waits until something is due: all that is. None once it has been closed.
    pub fn due(&self) -> Option<Vec<Delayed>> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            let now = Instant::now();
            let mut due = Vec::new();
            while state.waiting.peek().is_some_and(|Reverse(first)| first.due <= now) {
                due.extend(state.waiting.pop().map(|Reverse(message)| message));
            }
            if !due.is_empty() {
                return Some(due);
            }
            let wait = state.waiting.peek().map(|Reverse(first)| first.due - now);
            state = match wait {
                Some(wait) => self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0,
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Lets nobody wait any more. What is on its way is dropped.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn messages_arrive_in_order_of_time_and_none_too_early() {
        let (delay, now) = (Delay::default(), Instant::now());
        for (millis, word) in [(30, "c"), (10, "a"), (10, "b"), (60_000, "never")] {
            delay.push(now + Duration::from_millis(millis), 0, 1, word.into());
        }
        let mut seen = Vec::new();
        while seen.len() < 3 {
            for message in delay.due().unwrap() {
                assert!(Instant::now() >= message.due);
                seen.push(String::from_utf8(message.line).unwrap());
            }
        }
        assert_eq!(seen, ["a", "b", "c"]);
        delay.close();
        assert!(delay.due().is_none());
    }
}
