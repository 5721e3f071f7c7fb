//! Wakes a task that looks after several queues at once, from any thread and without a runtime.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// Rung after something was put into a queue. However often it is rung meanwhile, the one task that listens hears it once,
/// and then has to look into all of its queues.
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

    fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.rung.swap(false, Ordering::AcqRel) {
            return Poll::Ready(());
        }
        *self.sleeper.lock().unwrap_or_else(PoisonError::into_inner) = Some(context.waker().clone());
        // It may have rung just before.
        if self.rung.swap(false, Ordering::AcqRel) { Poll::Ready(()) } else { Poll::Pending }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;
    use std::thread;

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

    struct Unpark(thread::Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
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
            let waker = Waker::from(Arc::new(Unpark(thread::current())));
            let mut taken = 0;
            while taken < 2 * ITEMS {
                let mut heard = pin!(bell.heard());
                // A ring that is missed is a test that does not end.
                while heard.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
                    thread::park();
                }
                taken += queue.try_iter().count();
            }
        });
    }
}
