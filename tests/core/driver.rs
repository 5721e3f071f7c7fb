//! The driver's part: gives servers their events, carries their effects out, and answers clients.

use std::collections::VecDeque;

use raft::consensus::{
    AppendEntries, Effect, EntryKind, Event, Index, Message, MessageBody, NodeId, Persist, Role, Server, Ticket,
};

use crate::cluster::{Cluster, Detail, Letter, Next, Waiter, Write};
use crate::shelf::Shelf;
use crate::words;

impl Cluster {
    /// A node takes an event, and everything that follows at once.
    pub fn event(&mut self, id: NodeId, event: Event) {
        self.next.push_back(Next::Event(id, event));
        while let Some(next) = self.next.pop_front() {
            match next {
                Next::Event(id, event) => self.handle(id, event),
                Next::WritesDone(id) => {
                    let node = self.node(id);
                    if !node.disk.held && node.disk.latency.is_zero() && node.server.is_some() {
                        while self.finish_write(id) {}
                    }
                }
            }
        }
    }

    fn handle(&mut self, id: NodeId, event: Event) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let Some(server) = &mut node.server else { return };
        self.checker.before(server, &node.log);
        let mut effects = Vec::new();
        server.handle(now, event.clone(), &mut effects);

        let mut proposed = match &event {
            Event::Propose(proposals) => proposals.iter().map(|proposal| proposal.ticket).collect(),
            _ => VecDeque::new(),
        };
        let mut effects = effects.into_iter().peekable();
        while let Some(effect) = effects.next() {
            match effect {
                Effect::Send { to, message } => {
                    let mut receivers = vec![to];
                    while let Some(Effect::Send { to, .. }) =
                        effects.next_if(|next| matches!(next, Effect::Send { message: same, .. } if *same == message))
                    {
                        receivers.push(to);
                    }
                    self.send(id, &receivers, message);
                }
                effect => self.carry_out(id, effect, &mut proposed),
            }
        }
        self.checker.after(id, &event, &self.nodes);
        self.next.push_back(Next::WritesDone(id));
    }

    fn send(&mut self, from: NodeId, to: &[NodeId], message: Message) {
        self.tell(Detail::Words, || {
            let to: Vec<_> = to.iter().map(|&to| words::node(to)).collect();
            format!("{} → {}: {}", words::node(from), to.join(", "), words::message(&message))
        });
        self.checker.sent(from, &self.nodes[&from], &message);
        for &to in to {
            let traffic = self.traffic.entry((from, to)).or_default();
            traffic.messages += 1;
            traffic.rejections += u64::from(matches!(message.body, MessageBody::AppendRejected { .. }));
            if let MessageBody::AppendEntries(AppendEntries { entries, .. }) = &message.body {
                traffic.appends += u64::from(!entries.is_empty());
                traffic.entries += entries.len() as u64;
                traffic.bytes += entries.iter().map(|entry| u64::from(entry.size)).sum::<u64>();
            }
            let arrives = self.now + self.latency;
            self.links.entry((from, to)).or_default().push_back(Letter { message: message.clone(), arrives });
        }
    }

    fn carry_out(&mut self, id: NodeId, effect: Effect, proposed: &mut VecDeque<Ticket>) {
        let node = self.nodes.get_mut(&id).expect("it has a server");
        match effect {
            Effect::Send { .. } => unreachable!("sent together with others"),
            Effect::Append { entries } => {
                let leads = node.server.as_ref().is_some_and(|server| server.role() == Role::Leader);
                node.log.append(&entries);
                for entry in &entries {
                    if leads && entry.kind == EntryKind::Command {
                        let ticket = proposed.pop_front().expect("the command was proposed");
                        let name = self.requests.get(&ticket).expect("the ticket is known").clone();
                        self.checker.named(entry, &name);
                        let waiter = Waiter::Write { term: entry.term, name };
                        node.waiting.entry(entry.index).or_default().push(waiter);
                    }
                }
                self.checker.appended(&entries, leads, &node.log);
                self.tell(Detail::Words, || format!("{} appends {}", words::node(id), words::entries(&entries)));
            }
            Effect::Truncate { from } => {
                self.checker.truncated(id, from, node);
                let last = node.log.last();
                node.log.truncate(from);
                let lost = node.waiting.split_off(&from);
                self.tell(Detail::Deeds, || format!("{} removes {}", words::node(id), words::range(from, last)));
                for (index, waiter) in
                    lost.into_iter().flat_map(|(index, all)| all.into_iter().map(move |one| (index, one)))
                {
                    match waiter {
                        Waiter::Write { name, .. } => self.answer(id, &name, "outcome unknown, it was overwritten"),
                        // A read waits for an index, whatever will be there.
                        Waiter::Read { name } => self.await_read(id, index, name),
                    }
                }
            }
            Effect::Persist(persist) => {
                let entries = persist.append.map_or(Vec::new(), |(first, last)| node.log.range(first, last).to_vec());
                let begins = node.disk.writes.back().map_or(self.now, |before| before.done.max(self.now));
                let write = Write { persist, entries, done: begins + node.disk.latency };
                let told = (node.disk.held || !node.disk.latency.is_zero()).then(|| describe(&write));
                node.disk.writes.push_back(write);
                if let Some(what) = told {
                    self.tell(Detail::Words, || format!("{} begins to write {what}", words::node(id)));
                }
            }
            Effect::SendEntries { to, term, append, first, last } => {
                let entries = node.log.range(first, last).to_vec();
                let body = MessageBody::AppendEntries(AppendEntries { entries, ..append });
                self.send(id, &[to], Message { term, body });
            }
            Effect::SendSnapshot { to, at_least } => {
                let snapshot = node.disk.snapshot.clone().expect("what is not in the log is in a snapshot");
                assert!(snapshot.index >= at_least, "the newest snapshot covers enough");
                let term = node.server.as_ref().map(Server::term).unwrap_or_default();
                self.send(id, &[to], Message { term, body: MessageBody::InstallSnapshot { snapshot } });
            }
            Effect::InstallSnapshot { snapshot } => {
                self.checker.installed(id, &snapshot, node);
                node.log = Shelf::after(&snapshot);
                node.applied = snapshot.index;
                node.machine = self.checker.names(snapshot.index);
                let what = words::at(snapshot.index, snapshot.term);
                self.tell(Detail::Deeds, || format!("{} installs the snapshot up to {what}", words::node(id)));
                self.serve(id, Index(0));
            }
            Effect::Commit { index } => self.apply(id, index),
            Effect::ReadReady { ticket, index, .. } => {
                self.checker.read_confirmed(ticket, index);
                let name = self.requests.get(&ticket).expect("the ticket is known").clone();
                self.await_read(id, index, name);
            }
            Effect::Reject { ticket, reason } => {
                let name = self.requests.get(&ticket).expect("the ticket is known").clone();
                self.answer(id, &name, &format!("rejected, {reason:?}"));
            }
            Effect::RoleChanged { role, term, leader, reason } => {
                self.tell(Detail::Deeds, || words::role(id, role, term, leader, reason));
            }
            Effect::Refused { from, reason } => {
                self.checker.refusals += 1;
                self.tell(Detail::Deeds, || format!("{} refuses: {} {reason}", words::node(id), words::node(from)));
            }
            Effect::TransferEnded { to, outcome } => self.tell(Detail::Deeds, || {
                let to = to.map_or("another node".to_owned(), words::node);
                let outcome = outcome.map_or_else(|reason| format!("failed, {reason}"), |()| "done".to_owned());
                format!("{}'s transfer to {to}: {outcome}", words::node(id))
            }),
            Effect::Recalled => {
                node.forgetful = false;
                self.checker.recalled(id, &self.nodes);
                self.tell(Detail::Deeds, || format!("{} counts again", words::node(id)));
            }
            Effect::Fail(violation) => panic!("{}: {violation}", words::node(id)),
        }
    }

    fn apply(&mut self, id: NodeId, upto: Index) {
        self.checker.committed(id, upto, &self.nodes);
        let node = self.nodes.get_mut(&id).expect("it has a server");
        let first = node.applied.next();
        let mut names = Vec::new();
        while node.applied < upto {
            let entry = node.log.get(node.applied.next()).expect("what is committed is in the log");
            let name = self.checker.name_of(entry);
            node.applied = entry.index;
            names.push(name.unwrap_or("-").to_owned());
            node.machine.extend(name.map(str::to_owned));
        }
        if first <= upto {
            self.tell(Detail::Deeds, || {
                format!("{} commits {}: {}", words::node(id), words::range(first, upto), names.join(" "))
            });
        }
        self.serve(id, first);
    }

    /// Answers whoever waited for what is applied now, and tells the server.
    fn serve(&mut self, id: NodeId, first: Index) {
        let node = self.nodes.get_mut(&id).expect("it has a server");
        let applied = node.applied;
        let later = node.waiting.split_off(&applied.next());
        let due = std::mem::replace(&mut node.waiting, later);
        for (index, waiters) in due {
            let term = self.node(id).log.term_at(index).filter(|_| index >= first && first > Index(0));
            for waiter in waiters {
                match waiter {
                    Waiter::Write { term: own, name } if term == Some(own) => {
                        self.checker.acknowledged(index, &name);
                        self.answer(id, &name, "done");
                    }
                    Waiter::Write { name, .. } => self.answer(id, &name, "outcome unknown, a snapshot covers it"),
                    Waiter::Read { name } => self.await_read(id, index, name),
                }
            }
        }
        self.next.push_back(Next::Event(id, Event::Applied { index: applied }));
    }

    fn await_read(&mut self, id: NodeId, index: Index, name: String) {
        let node = self.nodes.get_mut(&id).expect("it has a server");
        if node.applied < index {
            node.waiting.entry(index).or_default().push(Waiter::Read { name });
        } else {
            let state = node.machine.last().map_or("nothing yet".to_owned(), |last| format!("all up to {last}"));
            self.answer(id, &name, &state);
        }
    }
}

fn describe(write: &Write) -> String {
    let Persist { token, hard_state, snapshot, truncate_from, append } = &write.persist;
    let vote = |vote: Option<NodeId>| vote.map_or("no vote".to_owned(), |vote| format!("vote {}", words::node(vote)));
    let parts = [
        hard_state.map(|hard| format!("term {} with {}", hard.term, vote(hard.vote))),
        snapshot.as_ref().map(|snapshot| format!("the snapshot up to {}", snapshot.index)),
        truncate_from.map(|from| format!("the removal from {from} on")),
        append.map(|_| words::entries(&write.entries)),
    ];
    format!("#{token}: {}", parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
}
