//! How a node stops: it hands leadership over, gives its vote if that may be needed, and waits for answers under way; it never
//! campaigns.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Driver;
use crate::consensus::quorum::{VoteResult, vote_result};
use crate::consensus::{Event, Role};
use crate::marks::{Mark, mark};

/// How long a node that stops waits at most.
const PATIENCE: Duration = Duration::from_millis(1000);
/// How often it says what it waits for.
const REPORT_INTERVAL: Duration = Duration::from_millis(250);

/// This node was asked to stop.
pub(super) struct Stop {
    /// It waits until then at the latest.
    by: Duration,
    /// Its vote may be needed, until a leader speaks, but no longer than this.
    successor_by: Option<Duration>,
    /// When to say what it waits for.
    report_at: Duration,
}

impl Driver {
    /// Stops: hands leadership over first, and waits for what is under way.
    pub(super) fn stop(&mut self) {
        if self.stop.is_some() {
            return;
        }
        self.stop = Some(Stop { by: self.now + PATIENCE, successor_by: None, report_at: self.now + REPORT_INTERVAL });
        if self.server.role() == Role::Candidate {
            // It was perhaps told to take over. Others have voted for it, and may not vote for anybody else.
            self.await_successor();
        }
        if self.could_hand_over() {
            log::info!("{} hands leadership over before it stops", self.me());
            self.begin_transfer(Event::Transfer { to: None }, Vec::new());
        }
        let waiting = self.requests.waiters.len() + self.requests.forwarded.len();
        if waiting > 0 {
            log::info!("{} waits for {waiting} requests under way before it stops", self.me());
        }
        self.requests.release = true;
    }

    /// If this node stops, it waits until there is a leader, as long as that usually takes at most.
    pub(super) fn await_successor(&mut self) {
        if let Some(stop) = &mut self.stop {
            stop.successor_by = Some(self.now + 2 * self.server.election_timeout());
        }
    }

    /// If this node stops, it does not keep the leadership that it was just given.
    pub(super) fn hand_on_if_stopping(&mut self) {
        if self.stop.is_some() && self.could_hand_over() {
            self.transfer = Some(Vec::new());
            self.events.push_back(Event::Transfer { to: None });
        }
    }

    /// Ends a node that stops and waits for nothing any more, or has waited long enough.
    pub(super) fn end_if_stopped(&mut self) {
        let Some(Stop { by, report_at, .. }) = self.stop else { return };
        let Some(awaited) = self.awaited() else {
            self.ended = Some(Ok(()));
            return;
        };
        if by <= self.now {
            mark(Mark::StoppedUnanswered);
            log::warn!("{} stops without waiting any longer for {awaited}", self.me());
            self.ended = Some(Ok(()));
        } else if report_at <= self.now {
            log::info!("{} stops when it has {awaited}", self.me());
            if let Some(stop) = &mut self.stop {
                stop.report_at = self.now + REPORT_INTERVAL;
            }
        }
    }

    /// What a node that stops waits for, in words.
    fn awaited(&self) -> Option<String> {
        let under_way = self.requests.under_way();
        if under_way > 0 {
            return Some(format!("the answers to {under_way} requests"));
        }
        let awaits_successor = self.stop.as_ref().and_then(|stop| stop.successor_by).is_some_and(|by| by > self.now);
        if !self.reaches_majority() {
            // Nobody can be elected with its help.
            None
        } else if self.transfer.is_some() {
            Some("a node that takes leadership over".into())
        } else if awaits_successor && self.server.leader().is_none() {
            Some("a new leader, who may need its vote".into())
        } else {
            None
        }
    }

    /// Whether this node and the peers to whom there are connections are a majority.
    fn reaches_majority(&self) -> bool {
        let reached = self.linked.iter().copied().chain([self.server.id()]);
        let votes: BTreeMap<_, _> = reached.map(|id| (id, true)).collect();
        vote_result(self.server.membership(), &votes) == VoteResult::Won
    }
}
