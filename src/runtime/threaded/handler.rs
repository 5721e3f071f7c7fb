//! The event handler: the one thread that owns the driver. Takes what is in its two inboxes, the node's own inputs first,
//! and gives it to the driver a turn at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Select;

use super::clock::Clock;
use crate::runtime::Inboxes;
use crate::runtime::driver::{Driver, Ended};

/// Most requests of clients in one turn: what is behind them waits for the next, so that a flood of requests cannot
/// delay a heartbeat.
const REQUESTS_PER_TURN: usize = 4096;

/// What the event handler's thread works with.
pub struct Handler {
    /// The driver.
    pub driver: Driver,
    /// The inboxes.
    pub inboxes: Inboxes,
    /// Fires when the server may have to campaign.
    pub election_clock: Arc<Clock>,
    /// Fires when a leader has to send heartbeats.
    pub heartbeat_clock: Arc<Clock>,
    /// When the node's time began.
    pub start: Instant,
}

impl Handler {
    /// Runs until the node ends; answers everyone who still waits, and says why it ended.
    pub fn run(mut self) -> Ended {
        while self.driver.ended().is_none() {
            self.election_clock.set(self.driver.election_deadline());
            self.heartbeat_clock.set(self.driver.heartbeat_deadline());
            self.wait();
            let news = self.inboxes.take_news();
            let Inboxes { internal, clients, .. } = &self.inboxes;
            let inputs = news.chain(internal.try_iter().take(internal.len()));
            self.driver.turn(self.start.elapsed(), inputs, clients.try_iter().take(REQUESTS_PER_TURN));
        }
        self.driver.shut_down(self.inboxes.clients.try_iter())
    }

    /// Waits until there is something in an inbox, or the driver wants a turn.
    fn wait(&self) {
        let Inboxes { internal, clients, .. } = &self.inboxes;
        let questions = self.inboxes.questions();
        if !internal.is_empty() || !clients.is_empty() || !questions.is_empty() {
            return;
        }
        let mut select = Select::new();
        select.recv(internal);
        select.recv(clients);
        select.recv(questions);
        match self.driver.next_turn() {
            None => {
                select.ready();
            }
            Some(at) => {
                let wait: Duration = at.saturating_sub(self.start.elapsed());
                let _ = select.ready_timeout(wait);
            }
        }
    }
}
