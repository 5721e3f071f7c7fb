//! Whether the states that a scenario forces on nodes could have come about: each by itself, and all of them together.

use std::collections::BTreeMap;

use super::error::Mistake;
use super::start::{Start, StartRole};
use super::{Config, NodeConfig, StorageClass};
use crate::consensus::{ForcedStart, NodeId, Term};

/// A node, where it begins, and the section that says so.
struct Begin<'a> {
    node: &'a NodeConfig,
    section: String,
    start: Option<&'a Start>,
    state: ForcedStart,
    votes: bool,
}

impl Begin<'_> {
    fn role(&self) -> StartRole {
        self.start.map_or(StartRole::Follower, |start| start.role)
    }

    fn term(&self) -> Term {
        self.state.hard_state.term
    }

    fn leads(&self, term: Term) -> bool {
        self.role() == StartRole::Leader && self.term() == term
    }

    fn last(&self) -> u64 {
        self.state.log.len() as u64
    }

    /// Term and index of the last entry of an earlier term: what counted when votes were given in this one.
    fn before(&self, term: Term) -> (Term, usize) {
        let end = self.state.log.partition_point(|entry| *entry < term);
        (end.checked_sub(1).and_then(|last| self.state.log.get(last)).copied().unwrap_or_default(), end)
    }

    /// The entries up to the first of this term, if there is one: what its leader had when it began, and where it went on.
    fn up_to(&self, term: Term) -> Option<&[Term]> {
        self.state.log.get(..=self.before(term).1).filter(|log| log.last() == Some(&term))
    }

    /// A mistake of a key that may have been left out.
    fn mistake(&self, key: &str, value: impl ToString, problem: impl Into<String>) -> Mistake {
        Mistake::of_value(&self.section, key, &value.to_string(), problem)
    }
}

impl Config {
    /// What is wrong with `[Start.X]`, without lines. `sections` are the names of the nodes' sections.
    pub(super) fn start_mistakes(&self, sections: &[String]) -> Vec<Mistake> {
        let begins = self.nodes.iter().zip(sections).enumerate().filter_map(|(at, (node, section))| {
            let section = section.replacen("Node.", "Start.", 1);
            let state = self.forced_start(node)?;
            Some(Begin { node, section, start: node.start.as_ref(), state, votes: at < self.node_count })
        });
        let begins: Vec<Begin<'_>> = begins.collect();
        let mut mistakes = Vec::new();
        if self.storage != StorageClass::InMemoryStorage {
            let problem = "a start can be forced only on nodes that keep nothing: expected StorageClass = InMemoryStorage \
                           in [Cluster]; set it, or remove the sections [Start.X]";
            let first = begins.iter().find(|begin| begin.start.is_some());
            mistakes.extend(first.map(|begin| Mistake::of_section(&begin.section, problem)));
        }
        for begin in &begins {
            if let Some(start) = begin.start {
                mistakes.extend(self.own_mistakes(begin, start));
                mistakes.extend(self.peer_mistakes(begin, start, &begins));
                mistakes.extend(vote_mistake(begin, &begins));
            }
        }
        // What follows compares states that make sense by themselves.
        if mistakes.is_empty() {
            mistakes.extend(leader_mistakes(&begins));
            mistakes.extend(entry_mistakes(&begins));
            mistakes.extend(rival_mistakes(&begins));
        }
        mistakes
    }

    /// What a node's own term, vote, role and log contradict.
    fn own_mistakes(&self, begin: &Begin<'_>, start: &Start) -> Vec<Mistake> {
        let (term, role) = (begin.term(), start.role);
        let mut mistakes = Vec::new();
        if let Some(last) = start.log.last().filter(|last| **last > term) {
            mistakes.push(begin.mistake("Term", term, format!("expected at least {last}, the term of the last entry")));
        }
        if let Some(name) = &start.voted_for {
            let problem = match self.find(name) {
                None => Some(format!("there is no such node; existing: {}", self.labels())),
                Some(_) if term == Term(0) => Some("nobody votes in term 0; give Term, or remove this line".into()),
                Some(voted_for) if role != StartRole::Follower && voted_for.id != begin.node.id => {
                    Some(format!("expected {}: a leader or candidate has voted for itself", begin.node.label))
                }
                Some(_) => None,
            };
            mistakes.extend(problem.map(|problem| begin.mistake("VotedFor", name, problem)));
        }
        if role != StartRole::Follower {
            let problem = match begin.votes {
                _ if term == Term(0) => Some("nobody leads or campaigns in term 0; give Term"),
                false => Some("this node does not vote, for NodeCount leaves it out: expected Follower"),
                true => None,
            };
            mistakes.extend(problem.map(|problem| begin.mistake("Role", role, problem)));
        }
        mistakes
    }

    /// What a leader cannot know of its peers.
    fn peer_mistakes(&self, begin: &Begin<'_>, start: &Start, begins: &[Begin<'_>]) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        let matches: BTreeMap<NodeId, u64> =
            start.match_index.iter().filter_map(|(name, index)| Some((self.find(name)?.id, *index))).collect();
        let after = begin.last() + 1;
        for (key, indexes) in [("NextIndex", &start.next_index), ("MatchIndex", &start.match_index)] {
            if !indexes.is_empty() && start.role != StartRole::Leader {
                mistakes.push(Mistake::of_key(&begin.section, key, "only a leader has one: expected Role = Leader"));
                continue;
            }
            for (name, &index) in indexes {
                let peer = self.find(name).and_then(|node| begins.iter().find(|begin| begin.node.id == node.id));
                let peer = peer.filter(|peer| peer.votes && peer.node.id != begin.node.id);
                let value = format!("{name}:{index}");
                let is_same = |other: &&String| self.find(other).map(|node| node.id) == peer.map(|peer| peer.node.id);
                let problem = match peer {
                    Some(_) if indexes.keys().filter(is_same).count() > 1 => Some("this peer is named twice".into()),
                    None => Some(format!("expected another node that votes; existing: {}", self.labels())),
                    Some(peer) if key == "MatchIndex" => match_problem(begin, peer, index),
                    Some(peer) => {
                        let matched = matches.get(&peer.node.id).copied().unwrap_or(0);
                        (index <= matched || index > after).then(|| {
                            format!("expected {} to {after}: above its MatchIndex, and not beyond the log", matched + 1)
                        })
                    }
                };
                mistakes.extend(problem.map(|problem| begin.mistake(key, value, problem)));
            }
        }
        mistakes
    }

    fn labels(&self) -> String {
        self.nodes.iter().map(|node| node.label.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// Why a peer's log cannot be known to be equal up to here.
fn match_problem(begin: &Begin<'_>, peer: &Begin<'_>, index: u64) -> Option<String> {
    let equal = begin.state.log.iter().zip(&peer.state.log).take_while(|(own, theirs)| own == theirs).count() as u64;
    (index > equal)
        .then(|| format!("the logs of {} and {} are equal only up to {equal}", begin.node.label, peer.node.label))
}

/// Why this node cannot have voted so: whoever is voted for has asked for it, with a log that is as good.
fn vote_mistake(begin: &Begin<'_>, begins: &[Begin<'_>]) -> Option<Mistake> {
    let (term, vote) = (begin.term(), begin.state.hard_state.vote?);
    let other = begins.iter().find(|other| other.node.id == vote)?;
    if begin.role() != StartRole::Follower || vote == begin.node.id {
        return None;
    }
    let name = &other.node.label;
    let asked = other.term() > term || (other.term() == term && other.state.hard_state.vote == Some(vote));
    let problem = if !asked {
        format!(
            "{name} has not asked for votes in term {term}: expected it in a later term, or to have voted for itself"
        )
    } else if other.role() != StartRole::Follower && other.term() == term && begin.before(term) > other.before(term) {
        format!("{name} cannot have got this vote, for its log is less up to date (Raft paper §5.4.1)")
    } else {
        return None;
    };
    Some(begin.mistake("VotedFor", name, problem))
}

/// Two leaders in one term; and entries of a leader's term that it has not got itself.
fn leader_mistakes(begins: &[Begin<'_>]) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    for (at, leader) in begins.iter().enumerate().filter(|(_, begin)| begin.role() == StartRole::Leader) {
        let (term, name) = (leader.term(), &leader.node.label);
        if let Some(first) = begins.iter().take(at).find(|other| other.leads(term)) {
            let problem = format!("{} leads term {term} already, and a term has one leader", first.node.label);
            mistakes.push(leader.mistake("Role", StartRole::Leader, problem));
        }
        for other in begins.iter().filter(|other| other.state.log.last() == Some(&term) && other.last() > leader.last())
        {
            let problem = format!("it has entries of term {term} that {name}, who leads that term, has not got");
            mistakes.push(Mistake::of_key(&other.section, "Log", problem));
        }
    }
    mistakes
}

/// Logs that have entries of one term but differ before them: its leader had one log, and went on from there.
fn entry_mistakes(begins: &[Begin<'_>]) -> Vec<Mistake> {
    let mut seen: BTreeMap<Term, (&Begin<'_>, &[Term])> = BTreeMap::new();
    let mut mistakes = Vec::new();
    for begin in begins {
        let mut terms = begin.state.log.clone();
        terms.dedup();
        let found = terms.into_iter().filter_map(|term| Some((term, begin.up_to(term)?)));
        let wrong = found.filter_map(|(term, log)| {
            let (first, expected) = *seen.entry(term).or_insert((begin, log));
            (log != expected).then_some((term, first))
        });
        // The first says enough: later terms go on from it.
        mistakes.extend(wrong.take(1).map(|(term, first)| {
            let problem = format!(
                "it has entries of term {term}, as {} has, but they differ in what is before them: the leader of a term has \
                 one log (Raft paper §5.3, Log Matching)",
                first.node.label
            );
            Mistake::of_key(&begin.section, "Log", problem)
        }));
    }
    mistakes
}

/// Terms that have a leader, now or when their entries were made, and could be won by another.
fn rival_mistakes(begins: &[Begin<'_>]) -> Vec<Mistake> {
    let voters: Vec<_> = begins.iter().filter(|begin| begin.votes).collect();
    let mut led: BTreeMap<Term, &Begin<'_>> = BTreeMap::new();
    for begin in begins {
        for term in &begin.state.log {
            led.entry(*term).or_insert(begin);
        }
    }
    led.extend(begins.iter().filter(|begin| begin.role() == StartRole::Leader).map(|begin| (begin.term(), begin)));
    let mistake = |(term, witness): (Term, &Begin<'_>)| {
        let may_run =
            |voter: &&&Begin<'_>| voter.term() < term || (voter.term() == term && voter.role() == StartRole::Candidate);
        let is_free = |voter: &&&Begin<'_>| {
            voter.term() < term || (voter.term() == term && voter.state.hard_state.vote.is_none())
        };
        let backers = |rival: &&&Begin<'_>| -> Vec<&str> {
            let backs = |voter: &&&Begin<'_>| is_free(voter) || voter.state.hard_state.vote == Some(rival.node.id);
            voters.iter().filter(backs).map(|voter| voter.node.label.as_str()).collect()
        };
        let rivals = voters.iter().filter(may_run).map(|rival| (rival.node, backers(&rival)));
        let (rival, backers) = rivals.into_iter().find(|(_, backers)| 2 * backers.len() > voters.len())?;
        let problem = format!(
            "term {term} has or had a leader, but {} could win it, too, with the votes of {}: give more of them this Term, and \
             whom they VotedFor in it",
            rival.label,
            backers.join(", ")
        );
        Some(Mistake::of_key(&witness.section, if witness.leads(term) { "Role" } else { "Log" }, problem))
    };
    led.into_iter().filter_map(mistake).collect()
}
