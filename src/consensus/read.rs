//! Linearizable reads without writing to the log (Raft thesis §6.4): a read waits until a quorum has confirmed, in a
//! round that began after the read arrived, that this server still leads.

use std::collections::VecDeque;

use super::common::Turn;
use super::effect::{Effect, RejectReason};
use super::event::Ticket;
use super::types::{Index, LogTime};
use crate::marks::{Mark, mark_if};
use crate::mutants::{Mutant, mutant};

/// The reads a leader has accepted, and the rounds that will confirm them.
///
/// Every `AppendEntries` carries the latest round, and every answer echoes it; so an entry that is proposed after a read
/// arrived cannot commit before that read is confirmed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Reads {
    /// The latest round; each batch of reads begins one, and so does each search for where a peer's log agrees.
    round: u64,
    /// The latest round that was told to every peer.
    told: u64,
    /// The latest round that a quorum has confirmed.
    confirmed: u64,
    waiting: VecDeque<Batch>,
}

/// Reads that arrived together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Batch {
    round: u64,
    index: Index,
    tickets: Vec<Ticket>,
}

impl Reads {
    /// The round for messages that leave now.
    pub fn round(&self) -> u64 {
        self.round
    }

    /// Begins a round, so that the answers to what is sent from now on can be told from earlier ones.
    pub fn begin_round(&mut self) -> u64 {
        self.round += 1;
        self.round
    }

    /// Reads that may run once everything up to `index` is applied, and a round that begins now is confirmed.
    pub fn add(&mut self, tickets: Vec<Ticket>, index: Index) {
        let round = self.begin_round();
        self.waiting.push_back(Batch { round, index, tickets });
    }

    /// Whether peers should be told of the latest round now. At most one round is told at a time, so that reads under
    /// load share rounds.
    pub fn must_tell(&self) -> bool {
        !self.waiting.is_empty() && self.told < self.round && self.told <= self.confirmed
    }

    /// Every peer is being told of the latest round.
    pub fn told(&mut self) {
        self.told = self.round;
    }

    /// A quorum has answered in this round or a later one: earlier reads are linearizable. `time`: log time now.
    pub fn confirm(&mut self, round: u64, time: LogTime, turn: &mut Turn<'_>) {
        self.confirmed = self.confirmed.max(round);
        let round = round + u64::from(mutant(Mutant::M14c));
        while let Some(batch) = self.waiting.pop_front_if(|batch| batch.round <= round) {
            mark_if(batch.round < round, Mark::ReadsShareRound);
            for ticket in batch.tickets {
                turn.effect(Effect::ReadReady { ticket, index: batch.index, time });
            }
        }
    }

    /// Leadership is lost: nobody will confirm these reads any more.
    pub fn reject(self, turn: &mut Turn<'_>) {
        mark_if(!self.waiting.is_empty(), Mark::ReadsLostLeader);
        for ticket in self.waiting.into_iter().flat_map(|batch| batch.tickets) {
            turn.effect(Effect::Reject { ticket, reason: RejectReason::NotLeader });
        }
    }
}
