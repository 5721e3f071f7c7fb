//! Requests for this node's own server: proposals and reads, given to it a turn at a time, and what becomes of them.

use super::connections::Request;
use super::effects::Payloads;
use super::requests::Submitted;
use super::waiters::Waiter;
use super::{Driver, report};
use crate::consensus::{Event, Index, LogTime, Payload, Proposal, Ticket};
use crate::marks::{Mark, mark};
use crate::runtime::stage::apply::{Commit, PositionedRead};
use crate::transport::ForwardKind;

impl Driver {
    /// Gives the turn's requests to the own server: all reads in one round, then all writes in one proposal.
    pub(super) fn submit(&mut self) {
        if self.requests.batch.is_empty() || self.ended.is_some() {
            return;
        }
        let next = self.server.last_index().next();
        let (mut reads, mut writes, mut proposals) = (Vec::new(), Vec::new(), Vec::new());
        for request in std::mem::take(&mut self.requests.batch) {
            self.requests.next_ticket += 1;
            let ticket = Ticket(self.requests.next_ticket);
            match request.kind {
                ForwardKind::Read => {
                    // Of a write of this turn, the place it will have if it is accepted.
                    let position = self.requests.connections.last_write(request.connection);
                    reads.push(ticket);
                    self.requests.submitted.insert(ticket, Submitted::new(request, position));
                }
                ForwardKind::Write | ForwardKind::SessionWrite(_) => {
                    let place = Index(next.0 + writes.len() as u64);
                    self.requests.connections.written(request.connection, place);
                    let (size, session) = (request.payload.len() as u32, request.kind.session());
                    proposals.push(Proposal { ticket, size, session });
                    writes.push((ticket, request));
                }
            }
        }
        let tickets = reads.clone();
        if !reads.is_empty() {
            self.server.handle(self.now, Event::Read(reads), &mut self.effects);
        }
        if !proposals.is_empty() {
            self.server.handle(self.now, Event::Propose(proposals), &mut self.effects);
        }
        // A prefix of the writes has got the places after the last.
        let last = self.server.last_index();
        let payloads = self.await_writes(writes, next, last);
        for ticket in tickets {
            if let Some(read) = self.requests.submitted.get_mut(&ticket) {
                read.position = read.position.min(last);
            }
        }
        self.carry_out(Payloads::Proposed(payloads.into_iter()));
        self.feed_caused();
    }

    /// Waits for the writes that were accepted, and returns their payloads. The rest will be rejected.
    fn await_writes(&mut self, writes: Vec<(Ticket, Request)>, next: Index, last: Index) -> Vec<Payload> {
        let term = self.server.term();
        let mut payloads = Vec::with_capacity(writes.len());
        for (place, (ticket, request)) in (next.0..).zip(writes) {
            let Request { connection, payload, asker, expires, .. } = request;
            if place <= last.0 {
                payloads.push(payload);
                let (since, answer_by) = (self.now, expires);
                self.requests.waiters.push(Waiter { index: Index(place), term, connection, asker, since, answer_by });
            } else {
                self.requests.connections.written(connection, last);
                let request = Request { payload, asker, ..request };
                self.requests.submitted.insert(ticket, Submitted::new(request, last));
            }
        }
        payloads
    }

    /// Takes back what was to be given to the own server in this turn.
    pub(super) fn recall_batch(&mut self) {
        for request in std::mem::take(&mut self.requests.batch) {
            mark(Mark::BatchRecalled);
            self.settled(request.connection);
            self.hold(request);
        }
        self.requests.release = true;
    }

    /// The own server has refused a request after all: a write has no place in the log, a read found no leader.
    pub(super) fn take_back(&mut self, request: Request) {
        match request.kind {
            ForwardKind::Write | ForwardKind::SessionWrite(_) => {
                self.settled(request.connection);
                self.hold(request);
                self.requests.release = true;
            }
            ForwardKind::Read => self.repeat_read(request),
        }
    }

    /// Leadership is confirmed for this read. Its position is explicit: at least the commit index when it arrived, and
    /// its connection's last write before it.
    pub(super) fn read_confirmed(&mut self, ticket: Ticket, index: Index, time: LogTime) {
        if let Some(submitted) = self.requests.submitted.get_mut(&ticket) {
            submitted.time = time;
            self.requests.confirmed.insert((submitted.position.max(index), ticket));
        }
    }

    /// The confirmed reads whose position is committed now go to the apply stage.
    pub(super) fn hand_over_reads(&mut self) {
        while let Some(&(position, ticket)) = self.requests.confirmed.first()
            && position <= self.commit
        {
            self.requests.confirmed.pop_first();
            let Some(Submitted { request, time, .. }) = self.requests.submitted.remove(&ticket) else { continue };
            self.settled(request.connection);
            let (query, asker) = (request.payload, request.asker);
            self.apply_job.reads.push(PositionedRead { position, time, query, asker });
        }
    }

    /// Leadership is lost, and with it the certainty that the positions of these reads will ever be reached.
    pub(super) fn repeat_confirmed_reads(&mut self) {
        for (_, ticket) in std::mem::take(&mut self.requests.confirmed) {
            if let Some(Submitted { request, .. }) = self.requests.submitted.remove(&ticket) {
                mark(Mark::ConfirmedReadsRepeated);
                self.repeat_read(request);
            }
        }
    }

    /// What the apply stage gets of a new commit index.
    pub(super) fn settle_commit(&mut self) -> Commit {
        let last = self.commit;
        let settled = self.requests.waiters.settle(last, |index| self.server.term_at(index));
        let mut askers = Vec::with_capacity(settled.committed.len());
        for waiter in settled.committed {
            self.settled(waiter.connection);
            self.metrics.commit.observe(self.now.saturating_sub(waiter.since));
            askers.push((waiter.index, waiter.asker));
        }
        for waiter in settled.dead {
            mark(Mark::ProposalLostPlace);
            self.settled(waiter.connection);
            self.answer(waiter.asker, Err(report::overwritten()));
        }
        Commit { last, entries: self.tail.hand_over(last), askers }
    }
}
