//! What can happen, and what it does.
//!
//! **Messages** may be lost, late, out of order, and arrive any number of times: whatever was sent stays in the mailbox, and
//! is delivered or not. So a state with more letters can do all that one with fewer can, and what only sends letters and
//! changes nothing else need not be a choice: it is done at once, by `saturated`. Heartbeats are such, and most answers to
//! letters that came before. And what can change nothing any more is left out, by `is_spent`: states that differ in nothing else
//! are the same.
//!
//! **Time** is a free choice. Clocks fire whenever they like. Where a server asks how long ago something was, each answer that
//! matters is an action of its own: a request for a vote finds a follower that protects its leader, or one whose leader was
//! not heard for an election timeout; a leader goes on, or gives up because its quorum or its disk did not answer, which
//! matters once it campaigns or is asked for a vote. This is more than real clocks allow, so nothing that they allow is
//! missed. With pre-votes, a follower that knows no leader asks for them at once, for that changes nothing but what it may do; and
//! it does not count those that are denied: it could ask again, and those that are granted stay.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use raft::consensus::{Event, Message, MessageBody, NodeId, Proposal, Role, Term, Ticket};

use crate::bounds::{Cuts, LATE, NOW};
use crate::model::RaftModel;
use crate::projection::mixed;
use crate::state::{Letter, Mailbox, Node, State, place};
use crate::step::{Outcome, Sent, Step};

#[derive(Clone, PartialEq, Eq)]
pub enum Action {
    /// The election clock fires; a leader has given up before.
    ElectionTimeout(NodeId),
    /// The heartbeat clock fires.
    Heartbeat(NodeId),
    /// A client proposes a command to a leader.
    Propose(NodeId),
    /// The disk finishes its oldest write.
    Persisted(NodeId),
    /// A crash, and a start from what is durable.
    Restart(NodeId),
    /// The letter arrives. `late`: the node heard no leader for an election timeout, or, if it leads, no quorum, and has
    /// given up.
    Deliver { to: NodeId, letter: Arc<Letter>, late: bool },
}

/// What a node does with something that is always possible.
#[derive(Clone)]
pub enum Reaction {
    /// It stays as it is, and says this.
    Says(Arc<[Sent]>),
    /// It changes.
    Changes,
}

impl RaftModel {
    pub fn enumerate(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken.is_some() {
            return;
        }
        let bounds = &self.bounds;
        for node in &state.nodes {
            let id = node.id();
            let leads = node.server.role() == Role::Leader;
            if !node.writes.is_empty() {
                actions.push(Action::Persisted(id));
            }
            if leads && Cuts::allow(&self.cuts.entries, state.proposals < bounds.entries) {
                actions.push(Action::Propose(id));
            }
            let fires = match node.server.role() {
                Role::PreCandidate => false,
                Role::Leader => self.may_give_up(node),
                _ => true,
            };
            if fires && Cuts::allow(&self.cuts.terms, node.server.term().0 < bounds.terms) {
                actions.push(Action::ElectionTimeout(id));
            }
            if Cuts::allow(&self.cuts.crashes, state.crashes < bounds.crashes) {
                actions.push(Action::Restart(id));
            }
            if leads && Cuts::allow(&self.cuts.heartbeats, state.heartbeats < bounds.heartbeats) {
                actions.push(Action::Heartbeat(id));
            }
            for letter in &state.mailboxes[place(id)].letters {
                for &late in self.choices(node, &letter.message) {
                    if let Reaction::Changes = self.reaction(state, node, letter, late) {
                        actions.push(Action::Deliver { to: id, letter: letter.clone(), late });
                    }
                }
            }
        }
    }

    /// A leader gives up when no quorum, or not its own disk, answers.
    fn may_give_up(&self, leader: &Node) -> bool {
        self.bounds.check_quorum || !leader.writes.is_empty()
    }

    /// Whether it matters how late it is when the message arrives.
    fn choices(&self, node: &Node, message: &Message) -> &'static [bool] {
        let asks = matches!(message.body, MessageBody::RequestVote { .. }) && message.term > node.server.term();
        let matters = match node.server.role() {
            Role::Leader => self.may_give_up(node),
            Role::Follower => self.bounds.check_quorum && node.server.leader().is_some(),
            _ => false,
        };
        if asks && matters { &[false, true] } else { &[false] }
    }

    /// The state after an action, and after all clocks that fire at once.
    pub fn follow(&self, before: &State, action: Action) -> Option<State> {
        let after = self.act(before, action)?;
        Some(self.bounds.ids().fold(after, |state, id| self.awake(state, id)))
    }

    /// A follower that knows no leader asks who would vote for it, if anybody has to be asked.
    pub fn awake(&self, state: State, id: NodeId) -> State {
        let server = &state.nodes[place(id)].server;
        let is_idle = server.role() == Role::Follower && server.leader().is_none();
        let asks = self.asks_at_once
            && self.bounds.pre_vote
            && is_idle
            && server.term().0 < self.bounds.terms
            && state.broken.is_none();
        let awake = asks.then(|| self.act(&state, Action::ElectionTimeout(id)));
        awake.flatten().unwrap_or(state)
    }

    fn act(&self, before: &State, action: Action) -> Option<State> {
        let mut after = before.clone();
        let outcome = match action {
            Action::ElectionTimeout(id) => {
                let mut step = Step::begin(self, before, id);
                step.give_up();
                step.run(LATE, Event::Tick);
                step.end()
            }
            Action::Heartbeat(id) => {
                after.heartbeats += 1;
                let mut step = Step::begin(self, before, id);
                step.run(NOW, Event::Tick);
                step.end()
            }
            Action::Propose(id) => {
                after.proposals += 1;
                let mut step = Step::begin(self, before, id);
                step.run(NOW, Event::Propose(vec![Proposal { ticket: Ticket(0), size: 1, session: None }]));
                step.end()
            }
            Action::Persisted(id) => {
                let mut step = Step::begin(self, before, id);
                step.finish_write();
                step.end()
            }
            Action::Deliver { to, letter, late } => self.deliver(before, to, &letter, late),
            Action::Restart(id) => return self.restart(before, id),
        };
        let at = place(outcome.node.id());
        let Outcome { node, outbox, mut checks } = outcome;
        after.nodes[at] = node;
        checks.between_nodes(&after.nodes);
        let (history, broken) = checks.end();
        if let Some(history) = history {
            after.history = Arc::new(history.settled(&self.renamings));
        }
        after.broken = broken.map(Arc::new);
        let after = self.saturated(after, at, &outbox);
        (!after.behaves_as(before)).then_some(after)
    }

    fn deliver<'a>(&'a self, before: &'a State, to: NodeId, letter: &Letter, late: bool) -> Outcome<'a> {
        let event = Event::Receive { from: letter.from, message: letter.message.clone() };
        let mut step = Step::begin(self, before, to);
        if late {
            step.give_up();
        }
        step.run(if late { LATE } else { NOW }, event);
        step.end()
    }

    /// Everything that is not durable is lost: messages that waited for the disk, too. A write may be durable although its
    /// end was never told; that is the same as an end that was told, and nothing that was said then arrives.
    fn restart(&self, before: &State, id: NodeId) -> Option<State> {
        let old = &before.nodes[place(id)];
        let node = self.settled(Node::start(id, old.disk.clone(), &self.bounds));
        if node.print() == old.print() {
            return None;
        }
        let mut after = before.clone();
        after.crashes += 1;
        after.nodes[place(id)] = node;
        Some(self.saturated(after, place(id), &[]))
    }

    /// After something happened at one node: adds what it said, and then all that anybody says to anything of that without
    /// changing.
    fn saturated(&self, mut state: State, at: usize, outbox: &[Sent]) -> State {
        if state.broken.is_some() {
            return state.settled(&self.renamings);
        }
        let mut touched = BTreeSet::from([at]);
        let mut mailboxes: Vec<_> = state.mailboxes.iter().map(|mailbox| Cow::Borrowed(&mailbox.letters)).collect();
        let node = &state.nodes[at];
        let is_deaf = |node: &Node, letter: &Letter| node.is_deaf_to(&letter.message, self.ignores_denials);
        if mailboxes[at].iter().any(|letter| is_deaf(node, letter)) {
            mailboxes[at].to_mut().retain(|letter| !is_deaf(node, letter));
        }
        let mut said = outbox.to_vec();
        loop {
            for (to, letter) in said.drain(..) {
                let to = place(to);
                if !is_deaf(&state.nodes[to], &letter)
                    && let Err(gap) = mailboxes[to].binary_search(&letter)
                {
                    mailboxes[to].to_mut().insert(gap, letter);
                    touched.insert(to);
                }
            }
            let Some(at) = touched.pop_first() else { break };
            let node = &state.nodes[at];
            for letter in mailboxes[at].iter() {
                for &late in self.choices(node, &letter.message) {
                    if let Reaction::Says(answers) = self.reaction(&state, node, letter, late) {
                        said.extend_from_slice(&answers);
                    }
                }
            }
        }
        for (mailbox, node) in mailboxes.iter_mut().zip(&state.nodes) {
            if self.forgets_spent && mailbox.iter().any(|letter| self.is_spent(&state, node, letter)) {
                mailbox.to_mut().retain(|letter| !self.is_spent(&state, node, letter));
            }
        }
        let changed = mailboxes.into_iter().enumerate().filter_map(|(at, letters)| match letters {
            Cow::Owned(letters) => Some((at, Mailbox::of(NodeId(at as u64 + 1), letters, &self.renamings))),
            Cow::Borrowed(_) => None,
        });
        for (at, mailbox) in changed.collect::<Vec<_>>() {
            state.mailboxes[at] = Arc::new(mailbox);
        }
        state.settled(&self.renamings)
    }

    /// Whether a letter that was answered can never change anything again, neither where it is nor, by its answers, where it
    /// came from: both are in the last term for good, in which nobody campaigns any more who does not yet.
    fn is_spent(&self, state: &State, to: &Node, letter: &Letter) -> bool {
        let last = Term(self.bounds.terms);
        let from = &state.nodes[place(letter.from)];
        // Its sender has reached that term: all that it may still learn is that there is a later one, which the answer to
        // the first that it ever sent, in term 0, tells it just as well.
        if matches!(letter.message.body, MessageBody::RequestVote { pre: true, .. })
            && letter.message.term > Term(1)
            && letter.message.term <= from.disk.hard_state.term
        {
            return true;
        }
        if to.disk.hard_state.term != last {
            return false;
        }
        let (asker, term) = (from.server.role(), letter.message.term);
        let is_over = from.disk.hard_state.term == last;
        match &letter.message.body {
            MessageBody::RequestVote { pre: true, .. } => is_over,
            MessageBody::RequestVote { pre: false, .. } => {
                is_over && asker != Role::Candidate && (term < last || to.disk.hard_state.vote.is_some())
            }
            MessageBody::AppendEntries(_) if term < last => is_over && asker == Role::Follower,
            // It is in the log, and only a crash takes back that it is committed. The answer is always the same.
            MessageBody::AppendEntries(append) => {
                state.crashes == self.bounds.crashes && to.has_taken(letter.from, append)
            }
            _ => false,
        }
    }

    /// What a node does with a letter. Known from the first time on.
    fn reaction(&self, state: &State, node: &Node, letter: &Letter, late: bool) -> Reaction {
        let key = mixed(mixed(node.print(), letter.key()), u64::from(late));
        if let Some(reaction) = self.reactions.get(&key) {
            return reaction.clone();
        }
        let outcome = self.deliver(state, node.id(), letter, late);
        let same = outcome.node.print() == node.print() && matches!(outcome.checks.end(), (None, None));
        let reaction = if same { Reaction::Says(outcome.outbox.into()) } else { Reaction::Changes };
        self.reactions.insert(key, reaction.clone());
        reaction
    }
}
