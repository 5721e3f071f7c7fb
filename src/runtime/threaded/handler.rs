//! The event handler of a node that runs on threads. It has one of its own, which waits at the inboxes, at the sockets of
//! peers, and for what the driver wants to do by itself. But if that thread sleeps, another one that has a little for the
//! handler gives it its turn at once: to wake the other takes longer than most turns do. And while a client sends request
//! after request its thread does not sleep at all, but polls, unless other programs want the core.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

use super::OwnSockets;
use super::clock::Clock;
use super::worker::Worker;
use crate::runtime::driver::Ended;
use crate::runtime::handler::EventHandler;
use crate::runtime::{Bell, Input, NodeHandle};

/// Found out by the handler's own thread.
const PANICKED: &str = "the event handler panicked on another thread";

/// If the core that it gave away comes back later than this, other programs want it.
const LONG_YIELD: Duration = Duration::from_millis(1);

/// For how long the thread sleeps then whenever it can: who has slept gets a core sooner than who has used one all the time.
const CONTENTION: Duration = Duration::from_millis(100);

/// An event handler for several threads.
pub struct SharedHandler {
    /// Until its own thread has ended it.
    handler: Mutex<Option<EventHandler>>,
    bell: Arc<Bell>,
    /// The clocks deliver their ticks to the inbox.
    clocks: [Arc<Clock>; 2],
    /// When its own thread gives it a turn though nobody wakes that, in nanoseconds of the node's time.
    looks_at: AtomicU64,
    /// Until when its own thread does not sleep, in nanoseconds of the node's time.
    busy_until: AtomicU64,
    /// Until when it sleeps nevertheless.
    contended_until: AtomicU64,
    /// When the node's time began.
    start: Instant,
}

impl SharedHandler {
    /// Lets those who have this handle give turns, for as long as this lives.
    pub fn new(handler: EventHandler, clocks: [Arc<Clock>; 2], handle: &NodeHandle) -> Arc<Self> {
        let bell = Arc::clone(&handler.inboxes.bell);
        let (start, handler) = (handler.start, Mutex::new(Some(handler)));
        let [looks_at, busy_until, contended_until] = [(); 3].map(|()| AtomicU64::new(0));
        let shared = Arc::new(SharedHandler { handler, bell, clocks, looks_at, busy_until, contended_until, start });
        // A handle leads to one handler, so this is the only time.
        let _ = handle.handler.set(Arc::downgrade(&shared));
        shared
    }

    /// On its own thread: runs until the node ends; answers everyone who still waits, and says why it ended. It serves these
    /// sockets, if there are any.
    pub fn run(&self, mut sockets: Option<Box<OwnSockets>>) -> Ended {
        let waker = sockets.as_ref().map(|sockets| sockets.waker());
        let mut failure = None;
        while let Some((has_input, patience)) = self.turn(failure.take())? {
            match (&mut sockets, &waker) {
                (Some(sockets), Some(waker)) => {
                    let served = self.serve(sockets, waker, has_input, patience);
                    let reason = |error| format!("cannot wait for the sockets of peers: {error}");
                    failure = served.err().map(|error| Input::Failed { reason: reason(error) });
                }
                _ if has_input => {}
                _ if self.is_busy_polling() => {
                    while self.is_busy_polling() {
                        self.give_way();
                    }
                    self.bell.heard_so_far();
                }
                _ => self.bell.wait(patience),
            }
        }
        let handler = self.lock()?.take();
        handler.map_or(Ok(()), EventHandler::shut_down)
    }

    /// On any other thread: gives it a turn, unless it has one just now. Whether it did.
    pub fn try_turn(&self) -> bool {
        // After a panic, too: its own thread finds out about that.
        let Ok(mut locked) = self.handler.try_lock() else { return false };
        let Some(handler) = locked.as_mut().filter(|handler| handler.driver.ended().is_none()) else { return false };
        handler.turn(None);
        self.tell(handler);
        let is_sooner = nanoseconds(handler.next_turn()) < self.looks_at.load(Ordering::Relaxed);
        if is_sooner || handler.driver.ended().is_some() {
            self.bell.ring();
        }
        true
    }

    /// Drops what is left of a handler that has panicked, and with it the requests that nobody will answer.
    pub fn discard(&self) {
        drop(self.handler.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    fn lock(&self) -> Result<MutexGuard<'_, Option<EventHandler>>, String> {
        self.handler.lock().map_err(|_| PANICKED.into())
    }

    /// A turn on the handler's own thread. Tells whether there is something in an inbox already, and how long to wait for it
    /// otherwise; nothing if the node has ended.
    fn turn(&self, failure: Option<Input>) -> Result<Option<(bool, Option<Duration>)>, String> {
        let mut locked = self.lock()?;
        let Some(handler) = locked.as_mut() else { return Ok(None) };
        handler.turn(failure);
        self.tell(handler);
        if handler.driver.ended().is_some() {
            return Ok(None);
        }
        // Known before anybody else can give a turn, who may want the next one earlier.
        self.looks_at.store(nanoseconds(handler.next_turn()), Ordering::Relaxed);
        Ok(Some((handler.has_input(), handler.patience())))
    }

    /// Tells the other threads what has to be known of it between two turns.
    fn tell(&self, handler: &EventHandler) {
        let [election_clock, heartbeat_clock] = &self.clocks;
        election_clock.set(handler.driver.election_deadline());
        heartbeat_clock.set(handler.driver.heartbeat_deadline());
        self.busy_until.store(nanoseconds(Some(handler.busy_until())), Ordering::Relaxed);
    }

    /// Whether its own thread is to look once more before it sleeps.
    fn is_busy_polling(&self) -> bool {
        let now = nanoseconds(Some(self.start.elapsed()));
        !self.bell.has_rung()
            && now < self.busy_until.load(Ordering::Relaxed)
            && now >= self.contended_until.load(Ordering::Relaxed)
    }

    /// Looks for input while that is likely to come, and in between gives the core to whoever wants it. Whether it did: the
    /// driver may want its next turn at another time now, for others have given it turns meanwhile.
    fn busy_poll(&self, worker: &mut Worker) -> io::Result<bool> {
        let mut has_polled = false;
        while self.is_busy_polling() {
            has_polled = true;
            worker.wait(Some(Duration::ZERO))?;
            if worker.has_work() {
                break;
            }
            self.give_way();
        }
        Ok(has_polled)
    }

    /// Gives the core to whoever wants it.
    fn give_way(&self) {
        let before = self.start.elapsed();
        thread::yield_now();
        let now = self.start.elapsed();
        if now - before > LONG_YIELD {
            self.contended_until.store(nanoseconds(Some(now + CONTENTION)), Ordering::Relaxed);
        }
    }

    /// Waits until there is something in an inbox, or the driver wants a turn; takes in what peers have sent.
    fn serve(
        &self,
        sockets: &mut OwnSockets,
        waker: &Waker,
        has_input: bool,
        patience: Option<Duration>,
    ) -> io::Result<()> {
        let has_input = has_input || self.busy_poll(&mut sockets.worker)? || self.bell.listen(waker);
        let waited = sockets.worker.wait(if has_input { Some(Duration::ZERO) } else { patience });
        self.bell.awake();
        sockets.worker.serve();
        self.bell.heard_so_far();
        waited
    }
}

/// A time that never comes is later than all others.
fn nanoseconds(at: Option<Duration>) -> u64 {
    at.map_or(u64::MAX, |at| u64::try_from(at.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A handler that is about to sleep, and would not for ever.
    fn busy_handler(busy_until: Option<Duration>) -> SharedHandler {
        let start = Instant::now();
        let clocks = [(); 2].map(|()| Arc::new(Clock::new(start)));
        SharedHandler {
            handler: Mutex::new(None),
            bell: Arc::default(),
            clocks,
            looks_at: AtomicU64::new(0),
            busy_until: AtomicU64::new(nanoseconds(busy_until)),
            contended_until: AtomicU64::new(0),
            start,
        }
    }

    #[test]
    fn busy_polling_ends_when_the_bell_rings_and_nobody_had_to_be_woken() {
        let (handler, mut sockets) = (busy_handler(None), OwnSockets::new().unwrap());
        thread::scope(|scope| {
            let polling = scope.spawn(|| handler.busy_poll(&mut sockets.worker));
            handler.bell.ring();
            polling.join().unwrap().unwrap();
        });
        assert!(!sockets.worker.has_work());
        assert!(handler.bell.listen(&sockets.waker()), "it is heard afterwards");
    }

    #[test]
    fn what_busy_polling_finds_is_there_to_be_served() {
        let (handler, mut sockets) = (busy_handler(None), OwnSockets::new().unwrap());
        sockets.waker().wake();
        assert!(handler.busy_poll(&mut sockets.worker).unwrap());
        assert!(sockets.worker.has_work());
        // Forgetting it, this would wait for ever.
        sockets.worker.wait(None).unwrap();
        sockets.worker.serve();
        assert!(!sockets.worker.has_work());
    }

    #[test]
    fn busy_polling_ends_in_time_or_when_others_want_the_core() {
        let mut sockets = OwnSockets::new().unwrap();
        let until = Duration::from_millis(20);
        let handler = busy_handler(Some(until));
        handler.busy_poll(&mut sockets.worker).unwrap();
        assert!(handler.start.elapsed() >= until || handler.contended_until.load(Ordering::Relaxed) > 0);
        let handler = busy_handler(None);
        handler.contended_until.store(u64::MAX, Ordering::Relaxed);
        assert!(!handler.busy_poll(&mut sockets.worker).unwrap());
    }

    #[test]
    fn after_busy_polling_there_is_a_turn_before_it_sleeps() {
        let mut sockets = OwnSockets::new().unwrap();
        let (waker, patience) = (sockets.waker(), Duration::from_secs(20));
        let handler = busy_handler(Some(Duration::from_millis(100)));
        // Nothing wakes it: it would sleep for as long as the driver wanted before, whatever that has planned since.
        handler.serve(&mut sockets, &waker, false, Some(patience)).unwrap();
        assert!(handler.start.elapsed() < patience);
    }
}
