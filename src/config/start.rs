//! `[Start.X]`: the state that a scenario forces on a node.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::{Config, NodeConfig};
use crate::consensus::{ForcedRole, ForcedStart, HardState, Index, Term};

/// Most entries of a forced log.
const MAX_ENTRIES: usize = 1000;
/// Highest term and index that can be given: far from where counting would end.
const MAX_NUMBER: u64 = 1_000_000_000;

/// `[Start.X]`: where a node begins, as the file has it. [`Config::forced_start`] is what it means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// `Term`; without it, that of the last entry.
    pub term: Option<Term>,
    /// `VotedFor`, by label or id; without it, a leader or candidate has voted for itself, and a follower for nobody.
    pub voted_for: Option<String>,
    /// `Role`.
    pub role: StartRole,
    /// `Log`: the term of each entry.
    pub log: Vec<Term>,
    /// `NextIndex` of peers, by label or id; without it, the index after the leader's last.
    pub next_index: BTreeMap<String, u64>,
    /// `MatchIndex` of peers, by label or id; without it, 0.
    pub match_index: BTreeMap<String, u64>,
}

/// `Role`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartRole {
    /// Waits for a leader, or an election timeout.
    #[default]
    Follower,
    /// Asks for votes in its term.
    Candidate,
    /// Leads its term.
    Leader,
}

impl Config {
    /// The state that this node is made to begin with: `None` unless the file is a scenario, that is, some node of it has a
    /// section `[Start.X]`. Then those without one are blank, but wait for the others, too.
    pub fn forced_start(&self, node: &NodeConfig) -> Option<ForcedStart> {
        self.nodes.iter().any(|node| node.start.is_some()).then(|| self.meaning(node))
    }

    fn meaning(&self, node: &NodeConfig) -> ForcedStart {
        let Some(start) = &node.start else { return ForcedStart::default() };
        let term = start.term.or(start.log.last().copied()).unwrap_or_default();
        let itself = (start.role != StartRole::Follower).then_some(node.id);
        let vote = start.voted_for.as_ref().and_then(|name| self.find(name)).map(|voted_for| voted_for.id).or(itself);
        let role = match start.role {
            StartRole::Follower => ForcedRole::Follower,
            StartRole::Candidate => ForcedRole::Candidate,
            StartRole::Leader => {
                let next = start.log.len() as u64 + 1;
                let peers = self.nodes.iter().take(self.node_count).filter(|peer| peer.id != node.id);
                let progress = peers.map(|peer| {
                    let given = |indexes| self.given(indexes, peer);
                    let matched = given(&start.match_index).unwrap_or(0);
                    (peer.id, (Index(matched), Index(given(&start.next_index).unwrap_or(next))))
                });
                ForcedRole::Leader(progress.collect())
            }
        };
        ForcedStart { hard_state: HardState { term, vote }, log: start.log.clone(), role }
    }

    /// What a list of indexes says of this peer.
    fn given(&self, indexes: &BTreeMap<String, u64>, peer: &NodeConfig) -> Option<u64> {
        let found = indexes.iter().find(|(name, _)| self.find(name).is_some_and(|named| named.id == peer.id));
        found.map(|(_, index)| *index)
    }
}

pub(super) const ROLE: &str = "Follower, Candidate or Leader";
pub(super) const TERM: &str = "a whole number from 0 to 1000000000";
pub(super) const LOG: &str = "the terms of at most 1000 entries, from 1, none below the one before, as in 1 1 1 4 4 5";
pub(super) const INDEXES: &str = "peers, each once, and a whole number up to 1000000000 for each, as in B:4 C:7";

/// An empty value is one that is left out: no file has one, but a configuration made by a program does.
pub(super) fn term(text: &str) -> Result<Option<Term>, String> {
    match text {
        "" => Ok(None),
        _ => number(text).map(|term| Some(Term(term))).ok_or_else(|| format!("expected {TERM}")),
    }
}

pub(super) fn log(text: &str) -> Result<Vec<Term>, String> {
    let terms: Option<Vec<u64>> = text.split_whitespace().map(number).collect();
    terms
        .filter(|terms| terms.len() <= MAX_ENTRIES && terms.is_sorted() && !terms.contains(&0))
        .map(|terms| terms.into_iter().map(Term).collect())
        .ok_or_else(|| format!("expected {LOG}"))
}

pub(super) fn indexes(text: &str) -> Result<BTreeMap<String, u64>, String> {
    let mut indexes = BTreeMap::new();
    for part in text.split_whitespace() {
        let given = part.rsplit_once(':').and_then(|(name, index)| Some((name.to_owned(), number(index)?)));
        let (name, index) = given.ok_or_else(|| format!("`{part}` is not clear: expected {INDEXES}"))?;
        if indexes.insert(name, index).is_some() {
            return Err(format!("`{part}` is the second for this peer: expected {INDEXES}"));
        }
    }
    Ok(indexes)
}

fn number(text: &str) -> Option<u64> {
    let digits = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok().filter(|number| *number <= MAX_NUMBER)
}

/// A log as a file has it.
pub(super) fn listed_log(log: &[Term]) -> String {
    log.iter().map(Term::to_string).collect::<Vec<_>>().join(" ")
}

/// Indexes as a file has them.
pub(super) fn listed_indexes(indexes: &BTreeMap<String, u64>) -> String {
    indexes.iter().map(|(name, index)| format!("{name}:{index}")).collect::<Vec<_>>().join(" ")
}

impl fmt::Display for StartRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StartRole::Follower => "Follower",
            StartRole::Candidate => "Candidate",
            StartRole::Leader => "Leader",
        })
    }
}

impl FromStr for StartRole {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "Follower" => Ok(StartRole::Follower),
            "Candidate" => Ok(StartRole::Candidate),
            "Leader" => Ok(StartRole::Leader),
            _ => Err(format!("there is no such role; expected {ROLE}")),
        }
    }
}
