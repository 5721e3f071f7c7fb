//! The event handler of a node that runs on threads. It has one of its own, which waits at the inboxes, at the sockets of
//! peers, and for what the driver wants to do by itself. But if that thread sleeps, another one that has a little for the
//! handler gives it its turn at once: to wake the other takes longer than most turns do.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use super::OwnSockets;
use super::clock::Clock;
use crate::runtime::driver::Ended;
use crate::runtime::handler::EventHandler;
use crate::runtime::{Bell, Input, NodeHandle};

/// Found out by the handler's own thread.
const PANICKED: &str = "the event handler panicked on another thread";

/// An event handler for several threads.
pub struct SharedHandler {
    /// Until its own thread has ended it.
    handler: Mutex<Option<EventHandler>>,
    bell: Arc<Bell>,
    /// The clocks deliver their ticks to the inbox.
    clocks: [Arc<Clock>; 2],
    /// When its own thread gives it a turn though nobody wakes that, in nanoseconds of the node's time.
    looks_at: AtomicU64,
}

impl SharedHandler {
    /// Lets those who have this handle give turns, for as long as this lives.
    pub fn new(handler: EventHandler, clocks: [Arc<Clock>; 2], handle: &NodeHandle) -> Arc<Self> {
        let bell = Arc::clone(&handler.inboxes.bell);
        let handler = Mutex::new(Some(handler));
        let shared = Arc::new(SharedHandler { handler, bell, clocks, looks_at: AtomicU64::new(0) });
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
        self.set_clocks(handler);
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
        self.set_clocks(handler);
        if handler.driver.ended().is_some() {
            return Ok(None);
        }
        // Known before anybody else can give a turn, who may want the next one earlier.
        self.looks_at.store(nanoseconds(handler.next_turn()), Ordering::Relaxed);
        Ok(Some((handler.has_input(), handler.patience())))
    }

    fn set_clocks(&self, handler: &EventHandler) {
        let [election_clock, heartbeat_clock] = &self.clocks;
        election_clock.set(handler.driver.election_deadline());
        heartbeat_clock.set(handler.driver.heartbeat_deadline());
    }

    /// Waits until there is something in an inbox, or the driver wants a turn; takes in what peers have sent.
    fn serve(
        &self,
        sockets: &mut OwnSockets,
        waker: &Waker,
        has_input: bool,
        patience: Option<Duration>,
    ) -> io::Result<()> {
        let has_input = has_input || self.bell.listen(waker);
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
