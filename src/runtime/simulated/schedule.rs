//! What will happen, in order of virtual time; what is due at the same time happens in the order in which it was planned.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Things to come.
pub struct Schedule<T> {
    /// When, how many were planned before, and where it is: the heap moves what it holds about, and so it holds little.
    due: BinaryHeap<Reverse<(u64, u64, u32)>>,
    things: Vec<Option<T>>,
    /// Places of things that have happened.
    free: Vec<u32>,
    next: u64,
}

impl<T> Schedule<T> {
    /// Nothing.
    pub fn new() -> Self {
        Schedule { due: BinaryHeap::new(), things: Vec::new(), free: Vec::new(), next: 0 }
    }

    /// This is to happen at that time, within the next 584 years.
    pub fn at(&mut self, at: Duration, what: T) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.things.push(None);
            self.things.len() as u32 - 1
        });
        self.things[place as usize] = Some(what);
        self.due.push(Reverse((at.as_nanos() as u64, self.next, place)));
        self.next += 1;
    }

    /// The next thing, and when it happens.
    pub fn pop(&mut self) -> Option<(Duration, T)> {
        let Reverse((at, _, place)) = self.due.pop()?;
        self.free.push(place);
        let what = self.things[place as usize].take()?;
        Some((Duration::from_nanos(at), what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_happen_when_they_are_due_and_else_as_they_were_planned() {
        let mut schedule = Schedule::new();
        let [early, late] = [1, 2].map(Duration::from_secs);
        schedule.at(late, "third");
        schedule.at(early, "first");
        schedule.at(early, "second");
        assert_eq!(schedule.pop(), Some((early, "first")));
        // In its place.
        schedule.at(late, "fourth");
        let rest = std::iter::from_fn(|| schedule.pop());
        assert_eq!(rest.collect::<Vec<_>>(), [(early, "second"), (late, "third"), (late, "fourth")]);
        assert_eq!(schedule.things.len(), 3, "places are used again");
    }
}
