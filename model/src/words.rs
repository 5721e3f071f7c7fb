//! A way through the model in words.

use std::fmt::Write;

use raft::consensus::{EntryHeader, Message, MessageBody};
use stateright::Path;

use crate::actions::Action;
use crate::model::RaftModel;
use crate::state::{Node, State, place};

/// What happened on the way, step by step: who did what, what was said, and how the node is after it.
pub fn story(model: &RaftModel, path: Path<State, Action>) -> String {
    let steps = path.into_vec();
    let mut story = String::new();
    for (number, pair) in steps.windows(2).enumerate() {
        let [(before, Some(what)), (after, _)] = pair else { continue };
        _ = writeln!(story, "{}. {}", number + 1, action(before, what));
        for to in model.bounds.ids() {
            let known = &before.mailboxes[place(to)].letters;
            for letter in after.mailboxes[place(to)].letters.iter().filter(|letter| !known.contains(letter)) {
                _ = writeln!(story, "     n{} → n{to}: {}", letter.from, message(&letter.message));
            }
        }
        let changed = before.nodes.iter().zip(&after.nodes).filter(|(old, new)| old.print() != new.print());
        for (_, new) in changed {
            _ = writeln!(story, "     {}", node(new));
        }
    }
    let broken = steps.last().and_then(|(state, _)| state.broken.as_ref());
    if let Some(broken) = broken {
        _ = write!(story, "     {}", broken.details);
    }
    story
}

fn action(before: &State, action: &Action) -> String {
    match action {
        Action::ElectionTimeout(id) => format!("n{id}'s election clock fires"),
        Action::Heartbeat(id) => format!("n{id}'s heartbeat clock fires"),
        Action::Propose(id) => format!("a client proposes a command to n{id}"),
        Action::Persisted(id) => format!("n{id}'s disk finishes its oldest write"),
        Action::Restart(id) => format!("n{id} crashes, and starts again with {}", disk(&before.nodes[place(*id)])),
        Action::Deliver { to, letter, late } => {
            let late = if *late { ", after an election timeout without an answer" } else { "" };
            format!("n{to} hears n{}{late}: {}", letter.from, message(&letter.message))
        }
    }
}

fn node(node: &Node) -> String {
    let status = node.server.status();
    let (id, role, term, commit) = (node.id(), status.role, status.term, status.commit);
    let waiting = if node.writes.is_empty() { String::new() } else { format!(", {} writes wait", node.writes.len()) };
    format!("n{id} is {role} in term {term}, log {}, commit {commit}; on disk {}{waiting}", log(&node.log), disk(node))
}

fn disk(node: &Node) -> String {
    let hard_state = node.disk.hard_state;
    let vote = hard_state.vote.map_or("no vote".to_owned(), |vote| format!("its vote for n{vote}"));
    format!("term {}, {vote}, log {}", hard_state.term, log(&node.disk.log))
}

/// Indexes and terms of the entries.
fn log(log: &[EntryHeader]) -> String {
    let entries: Vec<_> = log.iter().map(|entry| format!("{}@{}", entry.index, entry.term)).collect();
    format!("[{}]", entries.join(" "))
}

fn message(message: &Message) -> String {
    let Message { term, body } = message;
    let what = match body {
        MessageBody::RequestVote { pre, last_index, last_term, .. } => {
            let asks = if *pre { "would you vote for me" } else { "vote for me" };
            format!("{asks}, my log ends at {last_index}@{last_term}")
        }
        MessageBody::RequestVoteResponse { pre, granted } => {
            let would = if *pre { "I would" } else { "I do" };
            format!("{would}{} vote for you", if *granted { "" } else { " not" })
        }
        MessageBody::AppendEntries(append) => {
            let (prev, commit) = (append.prev_index, append.commit);
            format!("after {prev}@{} append {}, commit {commit}", append.prev_term, log(&append.entries))
        }
        MessageBody::AppendAccepted { matched, .. } => format!("I have all up to {matched}"),
        MessageBody::AppendRejected { prev_index, hint_index, hint_term, .. } => {
            format!("{prev_index} does not match, try {hint_index}@{hint_term}")
        }
        other => format!("{other:?}"),
    };
    format!("{what} (term {term})")
}
