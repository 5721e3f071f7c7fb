//! Messages and effects in words, so that a script's output reads like a story.

use raft::consensus::{AppendEntries, EntryHeader, Index, Message, MessageBody, NodeId, Role, Term};

/// `n1`.
pub fn node(id: NodeId) -> String {
    format!("n{id}")
}

/// `3@1`: the entry at index 3, of term 1.
pub fn at(index: Index, term: Term) -> String {
    format!("{index}@{term}")
}

/// `3` or `3..5`.
pub fn range(first: Index, last: Index) -> String {
    if first == last { first.to_string() } else { format!("{first}..{last}") }
}

/// `1..3@1 4@2`: entries as runs of one term. Not consecutive ones, as broken messages have them, stay apart.
pub fn entries(entries: &[EntryHeader]) -> String {
    let mut runs: Vec<(Index, Index, Term)> = Vec::new();
    for entry in entries {
        match runs.last_mut() {
            Some((_, last, term)) if *term == entry.term && last.0.checked_add(1) == Some(entry.index.0) => {
                *last = entry.index;
            }
            _ => runs.push((entry.index, entry.index, entry.term)),
        }
    }
    let runs: Vec<_> = runs.into_iter().map(|(first, last, term)| format!("{}@{term}", range(first, last))).collect();
    runs.join(" ")
}

/// What a message says.
pub fn message(message: &Message) -> String {
    let Message { term, body } = message;
    let in_round = |round: u64| if round > 0 { format!(", round {round}") } else { String::new() };
    match body {
        MessageBody::RequestVote { pre: true, last_index, last_term, .. } => {
            format!("would you vote for me in term {term}? My log ends at {}", at(*last_index, *last_term))
        }
        MessageBody::RequestVote { transfer, last_index, last_term, .. } => {
            let why = if *transfer { " The leader asks for it." } else { "" };
            format!("vote for me in term {term}! My log ends at {}.{why}", at(*last_index, *last_term))
        }
        MessageBody::RequestVoteResponse { pre: true, granted: true } => format!("in term {term} I would vote for you"),
        MessageBody::RequestVoteResponse { pre: true, granted: false } => {
            format!("I would not vote for you (term {term})")
        }
        MessageBody::RequestVoteResponse { granted: true, .. } => format!("you have my vote in term {term}"),
        MessageBody::RequestVoteResponse { granted: false, .. } => format!("you do not get my vote (term {term})"),
        MessageBody::AppendEntries(append) => {
            let AppendEntries { prev_index, prev_term, commit, round, entries: new } = append;
            let what = if new.is_empty() { "I lead".to_owned() } else { format!("append {}", entries(new)) };
            let after = at(*prev_index, *prev_term);
            format!("{what} after {after}, commit {commit} (term {term}{})", in_round(*round))
        }
        MessageBody::AppendAccepted { matched, round, abstains } => {
            format!("I have all up to {matched} (term {term}{}){}", in_round(*round), abstaining(*abstains))
        }
        MessageBody::AppendRejected { prev_index, hint_index, hint_term, round, abstains } => {
            let hint = at(*hint_index, *hint_term);
            let (round, abstains) = (in_round(*round), abstaining(*abstains));
            format!("no, {prev_index} does not match; try {hint} (term {term}{round}){abstains}")
        }
        MessageBody::InstallSnapshot { snapshot } => {
            format!("take this snapshot up to {} (term {term})", at(snapshot.index, snapshot.term))
        }
        MessageBody::SnapshotInstalled { matched, abstains } => {
            format!("the snapshot is in, I have all up to {matched} (term {term}){}", abstaining(*abstains))
        }
        MessageBody::AskTerm { .. } => format!("I have forgotten all; in which term are you? (term {term})"),
        MessageBody::TellTerm { .. } => format!("I am in term {term}"),
        MessageBody::TimeoutNow => format!("take over, campaign now (term {term})"),
    }
}

fn abstaining(abstains: bool) -> &'static str {
    if abstains { ", but do not count me" } else { "" }
}

/// A change of role.
pub fn role(id: NodeId, role: Role, term: Term, leader: Option<NodeId>, reason: &str) -> String {
    let deed = match (role, leader) {
        (Role::Follower, Some(leader)) => format!("follows {} in term {term}", node(leader)),
        (Role::Follower, None) => format!("follows nobody in term {term}"),
        (Role::PreCandidate, _) => format!("is a pre-candidate in term {term}"),
        (Role::Candidate, _) => format!("campaigns in term {term}"),
        (Role::Leader, _) => format!("LEADS term {term}"),
    };
    format!("{} {deed}: {reason}", node(id))
}
