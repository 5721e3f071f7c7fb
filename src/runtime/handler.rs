//! The event handler: whoever owns the driver, and gives it what is in the inboxes a turn at a time, the node's own inputs
//! first. Who waits for the next turn, a thread or a task, is a runtime's business.

use std::time::{Duration, Instant};

use super::driver::{Driver, Ended};
use super::{Inboxes, Input};

/// Most requests of clients in one turn: what is behind them waits for the next, so that a flood of requests cannot
/// delay a heartbeat.
const REQUESTS_PER_TURN: usize = 4096;

/// How long after somebody wanted to be reminded that happens.
const REMINDER: Duration = Duration::from_millis(50);

/// The driver, with its inboxes and its time.
pub struct EventHandler {
    /// The driver.
    pub driver: Driver,
    /// The inboxes.
    pub inboxes: Inboxes,
    /// When the node's time began.
    pub start: Instant,
    /// When to remind those who want it.
    pub remind_at: Option<Duration>,
}

impl EventHandler {
    /// The node's time.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Whether there is something in an inbox.
    pub fn has_input(&self) -> bool {
        let Inboxes { internal, clients, .. } = &self.inboxes;
        !internal.is_empty() || !clients.is_empty() || !self.inboxes.questions().is_empty()
    }

    /// When there is something to do though nothing arrives.
    pub fn next_turn(&self) -> Option<Duration> {
        [self.driver.next_turn(), self.remind_at].into_iter().flatten().min()
    }

    /// How long to wait for that; for ever, if there is nothing.
    pub fn patience(&self) -> Option<Duration> {
        self.next_turn().map(|at| at.saturating_sub(self.now()))
    }

    fn remind(&mut self) {
        if self.inboxes.take_wish_for_reminder() && self.remind_at.is_none() {
            self.remind_at = Some(self.now() + REMINDER);
        }
        if self.remind_at.is_some_and(|at| at <= self.now()) {
            self.remind_at = None;
            self.inboxes.remind();
        }
    }

    /// Gives the driver what there is, after a tick if a clock has fired that does not deliver it by itself.
    pub fn turn(&mut self, tick: Option<Input>) {
        self.remind();
        let news = self.inboxes.take_news();
        let Inboxes { internal, clients, .. } = &self.inboxes;
        let inputs = tick.into_iter().chain(news).chain(internal.try_iter().take(internal.len()));
        self.driver.turn(self.start.elapsed(), inputs, clients.try_iter().take(REQUESTS_PER_TURN));
    }

    /// Answers everyone who still waits, and says why the node ended. May wait for the transport to hang up.
    pub fn shut_down(self) -> Ended {
        self.driver.shut_down(self.inboxes.clients.try_iter())
    }
}
