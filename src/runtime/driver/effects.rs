//! The server's effects, one by one.

use std::vec;

use super::connections::Route;
use super::lanes::Outgoing;
use super::{Driver, report};
use crate::consensus::{
    Effect, Entry, EntryHeader, EntryKind, Index, NodeId, Payload, Persist, RejectReason, Role, Term, Ticket,
};
use crate::marks::{Mark, mark_if};
use crate::runtime::Response;
use crate::runtime::stage::storage::StorageJob;
use crate::transport::Failure;

/// Where the payloads of appended entries come from.
pub(super) enum Payloads {
    /// They have none.
    None,
    /// From clients: the next command's is the next one.
    Proposed(vec::IntoIter<Payload>),
    /// From the leader: those of the entries after an index.
    Received { after: Index, payloads: Vec<Payload> },
}

impl Payloads {
    fn take(&mut self, header: &EntryHeader) -> Option<Payload> {
        match self {
            Payloads::Received { after, payloads } => {
                let at = header.index.0.checked_sub(after.0)?.checked_sub(1)?;
                payloads.get_mut(usize::try_from(at).ok()?).map(std::mem::take)
            }
            _ if header.kind != EntryKind::Command => Some(Payload::EMPTY),
            Payloads::Proposed(payloads) => payloads.next(),
            Payloads::None => None,
        }
    }
}

impl Driver {
    /// Carries out what the server wants done, in order.
    pub(super) fn carry_out(&mut self, mut payloads: Payloads) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            if self.ended.is_some() {
                break;
            }
            self.carry_out_one(effect, &mut payloads);
        }
        self.effects = effects;
    }

    fn carry_out_one(&mut self, effect: Effect, payloads: &mut Payloads) {
        match effect {
            Effect::Append { entries } => self.append(entries, payloads),
            Effect::Truncate { from } => self.tail.truncate(from),
            Effect::Persist(persist) => self.persist(persist),
            Effect::Send { to, message } => self.send(to, Outgoing::Message(message)),
            Effect::SendEntries { to, term, append, first, last } => {
                self.send(to, Outgoing::Entries { append, term, first, last });
            }
            Effect::SendSnapshot { to, at_least } => self.send_snapshot(to, at_least),
            Effect::InstallSnapshot { snapshot } => self.install_snapshot(snapshot),
            // Handed over at the end of the turn, after its reads: a read's position is explicit, so it may always go
            // first.
            Effect::Commit { index } => self.commit = self.commit.max(index),
            Effect::ReadReady { ticket, index, time } => self.read_confirmed(ticket, index, time),
            Effect::Reject { ticket, reason } => self.rejected(ticket, reason),
            Effect::RoleChanged { role, term, leader, reason } => self.role_changed(role, term, leader, reason),
            Effect::Refused { from, reason } => self.refused(from, reason),
            Effect::TransferEnded { to, outcome } => self.transfer_ended(to, outcome),
            Effect::Recalled => log::info!("{} has caught up: it votes and counts again", self.me()),
            Effect::Fail(violation) => self.fail(violation.to_string()),
        }
    }

    fn append(&mut self, entries: Vec<EntryHeader>, payloads: &mut Payloads) {
        for header in entries {
            let index = header.index;
            let appended = payloads.take(&header).is_some_and(|payload| self.tail.append(Entry { header, payload }));
            if !appended {
                return self.fail(format!("entry {index} was appended without its payload, or not after the last one"));
            }
        }
    }

    /// Adds to the turn's one storage job. A truncation removes what the job itself would append before it removes
    /// anything from the log.
    fn persist(&mut self, persist: Persist) {
        let Persist { token, hard_state, snapshot, truncate_from, append } = persist;
        let job = self.storage_job.get_or_insert_with(|| StorageJob { token, ..StorageJob::default() });
        job.token = token;
        self.last_token = token;
        let batch = &mut job.batch;
        batch.hard_state = hard_state.or(batch.hard_state);
        if let Some(snapshot) = snapshot {
            // What the job itself would have written before is replaced, too.
            mark_if(!batch.entries.is_empty(), Mark::JobReplaced);
            (batch.truncate_from, batch.entries) = (None, Vec::new());
            self.snapshots.will_be_durable(token, snapshot.clone());
            batch.install = Some(snapshot);
        }
        if let Some(from) = truncate_from {
            if batch.entries.first().is_none_or(|first| from <= first.header.index) {
                batch.truncate_from = Some(batch.truncate_from.map_or(from, |earlier| earlier.min(from)));
            }
            mark_if(batch.entries.last().is_some_and(|last| from <= last.header.index), Mark::JobTruncated);
            batch.entries.retain(|entry| entry.header.index < from);
        }
        if let Some((first, last)) = append {
            batch.entries.extend(self.tail.range(first, last).cloned());
        }
        self.tail.persisting(token, append.map(|(_, last)| last));
    }

    fn rejected(&mut self, ticket: Ticket, reason: RejectReason) {
        let Some(submitted) = self.requests.submitted.remove(&ticket) else { return };
        let failure = match reason {
            RejectReason::Overloaded => report::overloaded(),
            RejectReason::DiskFull => self.disk_is_full(),
            RejectReason::NotLeader | RejectReason::Transferring => return self.take_back(submitted.request),
        };
        self.settled(submitted.request.connection);
        self.answer(submitted.request.asker, Err(failure));
    }

    fn role_changed(&mut self, role: Role, term: Term, leader: Option<NodeId>, reason: &'static str) {
        match role {
            Role::Candidate => self.metrics.elections.add(1),
            Role::Leader => self.metrics.elections_won.add(1),
            Role::Follower | Role::PreCandidate => {}
        }
        self.tell(role, term, leader, reason);
        self.recall_batch();
        self.clear_lanes();
        self.abandon_snapshots();
        // One more election timeout for the answers that the last leader still owes.
        let answer_by = self.now + self.server.election_timeout();
        if role != Role::Leader {
            self.requests.waiters.hasten(answer_by);
            self.repeat_confirmed_reads();
        }
        let route = leader.map(|leader| Route { leader, term });
        for forwarded in self.requests.forwarded.values_mut().filter(|forwarded| Some(forwarded.route) != route) {
            forwarded.answer_by = forwarded.answer_by.min(answer_by);
        }
        if role == Role::Leader {
            self.hand_on_if_stopping();
        }
        self.requests.release = true;
    }

    fn transfer_ended(&mut self, to: Option<NodeId>, outcome: Result<(), &'static str>) {
        let target = to.map_or_else(|| "another node".to_owned(), |to| self.name(to));
        let outcome = match outcome {
            Ok(()) => {
                log::info!("{} has handed leadership over", self.me());
                self.await_successor();
                Ok(Response::Done)
            }
            Err(reason) => {
                match self.stop {
                    Some(_) => log::info!("{} stops without handing leadership over: {reason}", self.me()),
                    None => log::warn!("leadership was not handed over to {target}: {reason}"),
                }
                Err(Failure::NotReady(format!("leadership was not handed over to {target}: {reason}")))
            }
        };
        for asker in self.transfer.take().unwrap_or_default() {
            self.answer(asker, outcome.clone());
        }
        self.requests.release = true;
    }
}
