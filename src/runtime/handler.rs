//! The event handler: whoever owns the driver, and gives it what is in the inboxes a turn at a time, the node's own inputs
//! first. Who waits for the next turn, a thread or a task, is a runtime's business.

use std::time::{Duration, Instant};

use super::driver::{Driver, Ended};
use super::{Inboxes, Input};

/// Most requests of clients in one turn: what is behind them waits for the next, so that a flood of requests cannot
/// delay a heartbeat.
const REQUESTS_PER_TURN: usize = 4096;

/// The driver, with its inboxes and its time.
pub struct EventHandler {
    /// The driver.
    pub driver: Driver,
    /// The inboxes.
    pub inboxes: Inboxes,
    /// When the node's time began.
    pub start: Instant,
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

    /// How long to wait when there is nothing in an inbox; for ever, if the driver wants nothing by itself.
    pub fn patience(&self) -> Option<Duration> {
        self.driver.next_turn().map(|at| at.saturating_sub(self.now()))
    }

    /// Gives the driver what there is, after a tick if a clock has fired that does not deliver it by itself.
    pub fn turn(&mut self, tick: Option<Input>) {
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
