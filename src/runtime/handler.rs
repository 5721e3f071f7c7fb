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

/// How long to busy-poll after a request, or an entry from the leader: a put of one client takes less, unless the disk is
/// slow, and then there is little to gain.
const BUSY_POLL: Duration = Duration::from_millis(1);

/// With more under way than this the cores have better things to do.
const BUSY_POLL_UNDER_WAY: u64 = 1;

/// The driver, with its inboxes and its time.
pub struct EventHandler {
    /// The driver.
    pub driver: Driver,
    /// The inboxes.
    pub inboxes: Inboxes,
    /// When the node's time began.
    pub start: Instant,
    /// When to remind those who want it.
    remind_at: Option<Duration>,
    pace: Pace,
}

impl EventHandler {
    /// The node's time begins.
    pub fn new(driver: Driver, inboxes: Inboxes) -> Self {
        EventHandler { driver, inboxes, start: Instant::now(), remind_at: None, pace: Pace::default() }
    }

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

    /// Until when to look for input again and again rather than to sleep. A client that sends its next request as soon as the
    /// last is answered waits for little else than for the disk, and for threads of all nodes to wake up.
    pub fn busy_until(&self) -> Duration {
        self.pace.busy_until
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
        let (now, has_requests, last_index) = (self.now(), !clients.is_empty(), self.driver.server().last_index());
        let inputs = tick.into_iter().chain(news).chain(internal.try_iter().take(internal.len()));
        self.driver.turn(now, inputs, clients.try_iter().take(REQUESTS_PER_TURN));
        let has_news = has_requests || self.driver.server().last_index() != last_index;
        self.pace.note(now, has_news, self.driver.under_way());
    }

    /// Answers everyone who still waits, and says why the node ended. May wait for the transport to hang up.
    pub fn shut_down(self) -> Ended {
        self.driver.shut_down(self.inboxes.clients.try_iter())
    }
}

/// How soon one request or entry follows another, and how many there are at a time.
#[derive(Debug, Default)]
struct Pace {
    /// When one came last.
    came: Duration,
    /// When there were several under way.
    crowded: Duration,
    /// The next request, or the answer to this one, is expected until then.
    busy_until: Duration,
}

impl Pace {
    /// After a turn.
    fn note(&mut self, now: Duration, has_news: bool, under_way: u64) {
        if under_way > BUSY_POLL_UNDER_WAY {
            (self.crowded, self.busy_until) = (now, Duration::ZERO);
        }
        if has_news {
            let is_recent = |then| now.saturating_sub(then) <= BUSY_POLL;
            if is_recent(self.came) && !is_recent(self.crowded) {
                self.busy_until = now + BUSY_POLL;
            }
            self.came = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_is_expected_after_two_requests_in_quick_succession_unless_they_are_several_at_a_time() {
        let mut pace = Pace::default();
        let us = Duration::from_micros;
        let turns = [
            (5_000, true, 1, 0),
            (9_000, true, 1, 0),
            (9_400, true, 1, 10_400),
            (9_900, false, 0, 10_400),
            (10_400, true, 1, 11_400),
            (12_000, true, 0, 11_400),
            (12_001, true, 2, 0),
            (12_500, false, 0, 0),
            (13_001, true, 1, 0),
            (13_002, true, 1, 14_002),
        ];
        for (at, has_news, under_way, busy_until) in turns {
            pace.note(us(at), has_news, under_way);
            assert_eq!(pace.busy_until, us(busy_until), "after the turn at {at} µs");
        }
    }
}
