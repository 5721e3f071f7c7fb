//! Clients that wait for messages: each message wakes one of those that wait for its topic.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::runtime::Woken;

/// Who waits for which topic.
#[derive(Clone, Default)]
pub struct Waiters(Arc<Mutex<HashMap<Bytes, Arc<Notify>>>>);

/// One client that waits for a topic.
pub struct Waiter {
    waiters: Waiters,
    topic: Bytes,
    notify: Arc<Notify>,
}

/// A wake-up that somebody got. Dropped before it is [used](Self::use_up), because its client went away for instance, it wakes
/// somebody else.
pub struct WakeUp<'a>(Option<&'a Notify>);

impl Waiters {
    /// One more waits for this topic.
    pub fn join(&self, topic: Bytes) -> Waiter {
        let notify = Arc::clone(self.lock().entry(topic.clone()).or_default());
        Waiter { waiters: self.clone(), topic, notify }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Bytes, Arc<Notify>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Woken for Waiters {
    fn woken(&self, names: &[(Bytes, u64)]) {
        let topics = self.lock();
        if topics.is_empty() {
            return;
        }
        for (notify, count) in names.iter().filter_map(|(name, count)| topics.get(name).zip(Some(*count))) {
            // More than wait for it cannot be told.
            (0..count.min(Arc::strong_count(notify) as u64)).for_each(|_| notify.notify_one());
        }
    }

    fn replaced(&self) {
        self.lock().values().for_each(|notify| notify.notify_waiters());
    }
}

impl Waiter {
    /// Is done when a message has come since the future was [enabled](Notified::enable). Dropped after it was told of one, it
    /// tells the next who waits.
    pub fn notified(&self) -> Notified<'_> {
        self.notify.notified()
    }

    /// It is this one who was told.
    pub fn woken(&self) -> WakeUp<'_> {
        WakeUp(Some(&self.notify))
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut topics = self.waiters.lock();
        // The table's and this one's own: nobody else waits, and nobody can join meanwhile.
        if Arc::strong_count(&self.notify) == 2 {
            topics.remove(&self.topic);
        }
    }
}

impl WakeUp<'_> {
    /// The message was looked for.
    pub fn use_up(mut self) {
        self.0 = None;
    }
}

impl Drop for WakeUp<'_> {
    fn drop(&mut self) {
        if let Some(notify) = self.0 {
            notify.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn is_woken(notified: std::pin::Pin<&mut Notified<'_>>) -> bool {
        notified.poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    #[test]
    fn a_message_wakes_one_and_whoever_goes_away_wakes_the_next() {
        let waiters = Waiters::default();
        let [first, second, other] = ["t", "t", "other"].map(|topic| waiters.join(topic.into()));
        let (mut one, mut two, mut three) =
            (Box::pin(first.notified()), pin!(second.notified()), pin!(other.notified()));
        one.as_mut().enable();
        two.as_mut().enable();
        three.as_mut().enable();
        waiters.woken(&[("t".into(), 1), ("nobody".into(), 1)]);
        assert!(!is_woken(two.as_mut()) && !is_woken(three.as_mut()));
        drop(one);
        assert!(is_woken(two.as_mut()), "it was told, and went away");

        let mut one = pin!(first.notified());
        one.as_mut().enable();
        drop(second.woken());
        assert!(is_woken(one.as_mut()), "the second was woken, and went away before it looked");
        let mut one = pin!(first.notified());
        one.as_mut().enable();
        second.woken().use_up();
        assert!(!is_woken(one.as_mut()));
        waiters.replaced();
        assert!(is_woken(one) && is_woken(three));
    }

    #[test]
    fn nothing_is_left_of_those_who_went() {
        let waiters = Waiters::default();
        let (one, two) = (waiters.join("t".into()), waiters.join("t".into()));
        drop(one);
        assert_eq!(waiters.lock().len(), 1);
        drop(two);
        assert_eq!(waiters.lock().len(), 0);
    }
}
