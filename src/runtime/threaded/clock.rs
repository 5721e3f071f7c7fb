//! A clock that fires at a deadline which moves all the time, and which moving costs an atomic store.
//!
//! A follower's election deadline moves with every heartbeat, and always away. So the clock's thread sleeps until the
//! deadline that it saw, and looks again. Only a deadline earlier than that has to wake it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::runtime::{Input, NodeHandle};

/// No deadline.
const NEVER: u64 = u64::MAX;

/// A deadline, and the thread that waits for it.
pub struct Clock {
    start: Instant,
    /// Nanoseconds since `start`.
    deadline: AtomicU64,
    /// What the thread sleeps until; it looks by itself then.
    wakes_at: AtomicU64,
    stopped: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Clock {
    /// A clock without a deadline, whose time begins at `start`.
    pub fn new(start: Instant) -> Self {
        Clock {
            start,
            deadline: AtomicU64::new(NEVER),
            wakes_at: AtomicU64::new(NEVER),
            stopped: AtomicBool::new(false),
            thread: OnceLock::new(),
        }
    }

    /// Moves the deadline; the time since the start, or never.
    pub fn set(&self, deadline: Option<Duration>) {
        let deadline = deadline.map_or(NEVER, |deadline| u64::try_from(deadline.as_nanos()).unwrap_or(NEVER));
        if self.deadline.swap(deadline, Ordering::SeqCst) != deadline && deadline < self.wakes_at.load(Ordering::SeqCst)
        {
            self.wake();
        }
    }

    /// Ends [`run`](Self::run).
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.wake();
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Delivers a tick at each deadline, until it is stopped. A deadline that has fired does not fire again: the next one
    /// is a different one.
    pub fn run(&self, node: &NodeHandle) {
        self.thread.get_or_init(thread::current);
        let mut fired = NEVER;
        while !self.stopped.load(Ordering::SeqCst) {
            let seen = self.deadline.load(Ordering::SeqCst);
            let wakes_at = if seen == fired { NEVER } else { seen };
            self.wakes_at.store(wakes_at, Ordering::SeqCst);
            // Whoever moves the deadline first stores it and then looks at `wakes_at`; here it is the other way round. So
            // either it is seen here, or the other side wakes this thread.
            if self.deadline.load(Ordering::SeqCst) != seen || self.stopped.load(Ordering::SeqCst) {
                continue;
            }
            if wakes_at == NEVER {
                thread::park();
                continue;
            }
            let remaining = Duration::from_nanos(seen).saturating_sub(self.start.elapsed());
            if remaining.is_zero() {
                fired = seen;
                node.deliver(Input::Tick);
            } else {
                thread::park_timeout(remaining);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    struct Running {
        clock: Arc<Clock>,
        ticks: crossbeam_channel::Receiver<Input>,
        start: Instant,
        thread: Option<thread::JoinHandle<()>>,
    }

    impl Running {
        fn new() -> Self {
            let start = Instant::now();
            let clock = Arc::new(Clock::new(start));
            let (node, inboxes) = NodeHandle::new();
            let thread = thread::spawn({
                let clock = Arc::clone(&clock);
                move || clock.run(&node)
            });
            Running { clock, ticks: inboxes.internal, start, thread: Some(thread) }
        }

        fn set_ms(&self, from_now_ms: u64) -> Duration {
            let deadline = self.start.elapsed() + Duration::from_millis(from_now_ms);
            self.clock.set(Some(deadline));
            deadline
        }

        fn tick(&self) -> Duration {
            assert!(matches!(self.ticks.recv_timeout(Duration::from_secs(10)), Ok(Input::Tick)));
            self.start.elapsed()
        }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            self.clock.stop();
            self.thread.take().unwrap().join().unwrap();
        }
    }

    #[test]
    fn it_fires_once_and_never_early() {
        let running = Running::new();
        let deadline = running.set_ms(5);
        assert!(running.tick() >= deadline);
        assert!(running.ticks.recv_timeout(Duration::from_millis(20)).is_err(), "one deadline, one tick");
        let deadline = running.set_ms(5);
        assert!(running.tick() >= deadline, "the next one fires again");
    }

    #[test]
    fn an_earlier_deadline_wakes_it_and_a_later_one_postpones_it() {
        let running = Running::new();
        running.set_ms(60_000);
        let earlier = running.set_ms(5);
        assert!(running.tick() >= earlier, "well before a minute has passed");
        running.set_ms(10);
        let later = running.set_ms(40);
        assert!(running.tick() >= later);
    }

    #[test]
    fn a_deadline_in_the_past_fires_at_once() {
        let running = Running::new();
        running.clock.set(Some(Duration::ZERO));
        running.tick();
        running.clock.set(None);
        running.clock.set(Some(Duration::from_nanos(1)));
        running.tick();
    }
}
