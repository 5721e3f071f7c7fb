//! Wakes whoever looks after several queues at once, a thread or a task, from any thread and without a runtime.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// Rung after something was put into a queue. However often it is rung meanwhile, the one that listens hears it once, and
/// then has to look into all of its queues.
///
/// A thread that listens sleeps at once. Waiting at a channel itself, it would first look again and again for a while, which
/// on few cores takes the time of those it waits for.
#[derive(Debug, Default)]
pub struct Bell {
    rung: AtomicBool,
    sleeper: Mutex<Option<Waker>>,
}

impl Bell {
    /// Wakes whoever listens, now or later.
    pub fn ring(&self) {
        // Both sides exchange the flag, never only look at it: either the listener finds it set, and what was put into the
        // queue before, or this side finds it cleared, and the sleeper there.
        if !self.rung.swap(true, Ordering::AcqRel) {
            let sleeper = self.sleeper.lock().unwrap_or_else(PoisonError::into_inner).take();
            sleeper.into_iter().for_each(Waker::wake);
        }
    }

    /// Is done when the bell has rung since this was done last. For one task.
    pub async fn heard(&self) {
        poll_fn(|context| self.poll(context)).await;
    }

    /// The same for a thread, which waits so long at most.
    pub fn wait(&self, longest: Option<Duration>) {
        thread_local!(static UNPARK: Waker = Waker::from(Arc::new(Unpark(thread::current()))));
        // A moment that is too far away to be told never comes.
        let until = longest.and_then(|longest| Instant::now().checked_add(longest));
        UNPARK.with(|unpark| {
            while self.poll(&mut Context::from_waker(unpark)).is_pending() {
                match until.map(|until| until.saturating_duration_since(Instant::now())) {
                    None => thread::park(),
                    Some(Duration::ZERO) => break,
                    Some(left) => thread::park_timeout(left),
                }
            }
        });
    }

    /// Wakes this from now on, unless it has rung since it was [`heard_so_far`](Self::heard_so_far), which is then told.
    /// For a thread that waits for other things besides.
    pub fn listen(&self, waker: &Waker) -> bool {
        self.poll(&mut Context::from_waker(waker)).is_ready()
    }

    /// Whether it has rung since. Only to end waiting early: whoever sleeps has to [`listen`](Self::listen).
    pub fn has_rung(&self) -> bool {
        self.rung.load(Ordering::Acquire)
    }

    /// Whoever listens is awake.
    pub fn awake(&self) {
        *self.sleeper.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What it has rung for until now will be looked at.
    pub fn heard_so_far(&self) {
        self.rung.swap(false, Ordering::AcqRel);
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.rung.swap(false, Ordering::AcqRel) {
            return Poll::Ready(());
        }
        *self.sleeper.lock().unwrap_or_else(PoisonError::into_inner) = Some(context.waker().clone());
        // It may have rung just before.
        if self.rung.swap(false, Ordering::AcqRel) { Poll::Ready(()) } else { Poll::Pending }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn it_is_heard_once_however_often_it_rings() {
        let (bell, wakes) = (Bell::default(), Arc::new(Wakes::default()));
        let waker = Waker::from(wakes.clone());
        let is_heard = || pin!(bell.heard()).as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        assert!(!is_heard());
        (0..3).for_each(|_| bell.ring());
        assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
        assert!(is_heard() && !is_heard());
        bell.ring();
        assert_eq!(wakes.0.load(Ordering::SeqCst), 2);
        assert!(is_heard(), "also by who comes later");
    }

    #[test]
    fn nothing_that_was_queued_before_a_ring_is_missed() {
        const ITEMS: usize = 20_000;
        let (bell, (sender, queue)) = (Bell::default(), crossbeam_channel::unbounded());
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..ITEMS {
                        sender.send(()).unwrap();
                        bell.ring();
                    }
                });
            }
            let mut taken = 0;
            while taken < 2 * ITEMS {
                // A ring that is missed is a test that does not end.
                bell.wait(None);
                taken += queue.try_iter().count();
            }
        });
    }

    #[test]
    fn a_thread_waits_no_longer_than_it_wants() {
        let (bell, longest) = (Bell::default(), Duration::from_millis(5));
        let began = Instant::now();
        bell.wait(Some(longest));
        assert!(began.elapsed() >= longest);
        bell.ring();
        bell.wait(Some(Duration::MAX));
        bell.wait(Some(Duration::ZERO));
    }
}
