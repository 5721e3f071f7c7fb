//! One step: events at one node, and their effects.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use raft::consensus::{AppendEntries, Effect, EntryHeader, Event, Index, Message, MessageBody, NodeId, Persist, Role};

use crate::bounds::{NOW, TOO_LATE};
use crate::model::RaftModel;
use crate::properties::Checks;
use crate::state::{Letter, Node, State, Write, place};

/// A letter, and to whom.
pub type Sent = (NodeId, Arc<Letter>);

/// What became of a step.
pub struct Outcome<'a> {
    pub node: Arc<Node>,
    pub outbox: Vec<Sent>,
    pub checks: Checks<'a>,
}

/// One step of one node.
pub struct Step<'a> {
    model: &'a RaftModel,
    node: Node,
    checks: Checks<'a>,
    outbox: Vec<Sent>,
    events: VecDeque<Event>,
}

impl<'a> Step<'a> {
    pub fn begin(model: &'a RaftModel, before: &'a State, id: NodeId) -> Self {
        let node = Node::clone(&before.nodes[place(id)]);
        Step { model, node, checks: Checks::new(before, id), outbox: Vec::new(), events: VecDeque::new() }
    }

    /// Handles the event and what follows from it at once: what is committed is applied, and a fast disk is done.
    pub fn run(&mut self, now: Duration, event: Event) {
        self.events.push_back(event);
        while let Some(event) = self.events.pop_front() {
            let mut effects = Vec::new();
            self.checks.before(&self.node.server, &self.node.log, &event);
            self.node.server.handle(now, event, &mut effects);
            for effect in effects {
                self.carry_out(effect);
            }
            self.checks.after(&self.node);
            if !self.model.bounds.slow_disks && self.events.is_empty() && !self.node.writes.is_empty() {
                self.write();
            }
        }
    }

    /// A leader that was not answered in time leads no more. Others have nothing to give up.
    pub fn give_up(&mut self) {
        if self.node.server.role() == Role::Leader {
            self.run(TOO_LATE, Event::Tick);
            self.node.normalize();
        }
    }

    /// The disk finishes its oldest write.
    pub fn finish_write(&mut self) {
        self.write();
        if let Some(event) = self.events.pop_front() {
            self.run(NOW, event);
        }
    }

    /// The oldest write reaches the disk.
    fn write(&mut self) {
        if let Some((token, write)) = self.node.writes.pop_front() {
            self.checks.written(&self.node.disk, &write);
            self.node.disk.write(write);
            self.events.push_back(Event::Persisted { token });
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Append { entries } => {
                self.checks.appended(&self.node, &entries);
                self.node.log.extend(entries);
            }
            Effect::Truncate { from } => {
                self.checks.truncated(&self.node, from);
                self.node.log.truncate(from.prev().0 as usize);
            }
            Effect::Persist(persist) => self.persist(persist),
            Effect::Send { to, message } => self.send(to, message),
            Effect::SendEntries { to, term, append, first, last } => {
                let entries = self.entries(first, last);
                self.send(to, Message { term, body: MessageBody::AppendEntries(AppendEntries { entries, ..append }) });
            }
            Effect::Commit { index } => {
                self.checks.committed(&self.node, index);
                self.events.push_back(Event::Applied { index });
            }
            Effect::RoleChanged { role: Role::Leader, term, .. } => self.checks.elected(&self.node, term),
            Effect::RoleChanged { .. } | Effect::Reject { .. } => {}
            Effect::Refused { from, reason } => self.checks.refused(from, reason),
            Effect::Fail(violation) => self.checks.failed(&violation),
            Effect::SendSnapshot { .. }
            | Effect::InstallSnapshot { .. }
            | Effect::ReadReady { .. }
            | Effect::TransferEnded { .. }
            | Effect::Recalled => self.checks.unasked(&effect),
        }
    }

    fn entries(&self, first: Index, last: Index) -> Vec<EntryHeader> {
        self.node.log[first.prev().0 as usize..last.0 as usize].to_vec()
    }

    fn persist(&mut self, persist: Persist) {
        let Persist { token, hard_state, truncate_from, append, snapshot: _ } = persist;
        let entries = append.map_or(Vec::new(), |(first, last)| self.entries(first, last));
        self.node.writes.push_back((token, Write { hard_state, truncate_from, entries }));
    }

    fn send(&mut self, to: NodeId, message: Message) {
        self.checks.sent(&self.node, &message);
        let letter = Letter::new(self.node.id(), message, self.model.bounds.nodes);
        self.outbox.push((to, Arc::new(letter)));
    }

    /// What became of it.
    pub fn end(self) -> Outcome<'a> {
        Outcome { node: self.model.settled(self.node), outbox: self.outbox, checks: self.checks }
    }
}
