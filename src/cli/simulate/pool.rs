//! Runs what is independent on several threads, and hands out what came of it in order.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Runs every number of the range on so many threads, until `is_over`, which is asked from time to time. What came of each is
/// given to `each` in order, whatever was ready first; when it is over early, the numbers that were given are the first ones.
pub fn run<T: Send>(
    jobs: usize,
    numbers: Range<u64>,
    run: impl Fn(u64) -> T + Sync,
    mut each: impl FnMut(u64, T),
    mut is_over: impl FnMut() -> bool,
) {
    let (next, stops) = (AtomicU64::new(numbers.start), AtomicBool::new(false));
    let (sender, results) = crossbeam_channel::bounded(2 * jobs);
    thread::scope(|scope| {
        for _ in 0..jobs {
            let (sender, next, stops, run, end) = (sender.clone(), &next, &stops, &run, numbers.end);
            scope.spawn(move || {
                // Never beyond the end, which may be the last number there is.
                let take = |number: u64| (number < end).then(|| number + 1);
                while !stops.load(Ordering::Relaxed)
                    && let Ok(number) = next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
                    && sender.send((number, run(number))).is_ok()
                {}
            });
        }
        drop(sender);
        let (mut ready, mut due) = (BTreeMap::new(), numbers.start);
        loop {
            match results.recv_timeout(Duration::from_millis(100)) {
                Ok((number, result)) => {
                    ready.insert(number, result);
                }
                Err(crossbeam_channel::RecvTimeoutError::Timeout) => {}
                Err(crossbeam_channel::RecvTimeoutError::Disconnected) => break,
            }
            while let Some(result) = ready.remove(&due) {
                each(due, result);
                due += 1;
            }
            if is_over() {
                stops.store(true, Ordering::Relaxed);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_of_each_is_handed_out_in_order() {
        for jobs in [1, 3, 16] {
            let mut seen = Vec::new();
            // The later ones are ready first.
            let slow = |number: u64| {
                thread::sleep(Duration::from_millis(20 - 2 * (number % 10)));
                number * number
            };
            run(jobs, 5..25, slow, |number, square| seen.push((number, square)), || false);
            assert_eq!(seen, (5..25).map(|number| (number, number * number)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn there_is_nothing_after_the_last_number() {
        let (mut seen, begun) = (Vec::new(), AtomicU64::new(0));
        let count = |_| begun.fetch_add(1, Ordering::Relaxed);
        let mut each = |number, _| seen.push(number);
        // Whoever begins anything else has begun a hundred of them soon, and is stopped.
        run(3, u64::MAX - 1..u64::MAX, count, &mut each, || begun.load(Ordering::Relaxed) > 100);
        assert_eq!((seen, begun.into_inner()), (vec![u64::MAX - 1], 1));
    }

    #[test]
    fn nothing_is_left_out_when_it_is_over_early() {
        let (mut seen, begun) = (Vec::new(), AtomicU64::new(0));
        let count = |number| {
            begun.fetch_add(1, Ordering::Relaxed);
            number
        };
        let over = AtomicBool::new(false);
        let mut each = |number, _| {
            seen.push(number);
            over.store(number >= 10, Ordering::Relaxed);
        };
        run(4, 0..u64::MAX, count, &mut each, || over.load(Ordering::Relaxed));
        assert!(seen.len() > 10);
        assert_eq!(seen, (0..begun.into_inner()).collect::<Vec<_>>());
    }
}
