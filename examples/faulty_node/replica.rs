//! A log that all nodes have: Raft as in Maelstrom's guide, without disk and without snapshots, and with two bugs to choose.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const HEARTBEAT: Duration = Duration::from_millis(30);
const ELECTION_MIN: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Follower,
    Candidate,
    Leader,
}

/// What one node knows of the log.
pub struct Replica {
    /// A follower truncates its log with every request, and then appends, as the guide has it.
    truncates: bool,
    me: String,
    others: Vec<String>,
    role: Role,
    term: u64,
    voted: Option<String>,
    votes: usize,
    pub leader: Option<String>,
    /// Terms and entries. Indexes count from 1.
    log: Vec<(u64, Value)>,
    commit: usize,
    applied: usize,
    /// Entries come from the first one on again.
    pub begins_again: bool,
    /// By follower: up to where its log is this one's, and what it is sent next.
    matched: BTreeMap<String, usize>,
    next: BTreeMap<String, usize>,
    /// When to send again, or to ask for votes.
    pub deadline: Instant,
    /// Messages that wait to be sent.
    pub out: Vec<(String, Value)>,
}

impl Replica {
    pub fn new(truncates: bool, me: &str, others: Vec<String>, now: Instant) -> Self {
        let (me, role) = (me.to_owned(), Role::Follower);
        let (voted, leader, log, out) = (None, None, Vec::new(), Vec::new());
        let (matched, next) = (BTreeMap::new(), BTreeMap::new());
        let (term, votes, commit, applied, begins_again, deadline) = (0, 0, 0, 0, false, now);
        let mut replica = Replica {
            truncates,
            me,
            others,
            role,
            term,
            voted,
            votes,
            leader,
            log,
            commit,
            applied,
            begins_again,
            matched,
            next,
            deadline,
            out,
        };
        replica.deadline += replica.patience();
        replica
    }

    pub fn is_leader(&self) -> bool {
        self.role == Role::Leader
    }

    /// Another one for every node and term.
    fn patience(&self) -> Duration {
        let mut hasher = DefaultHasher::new();
        (&self.me, self.term).hash(&mut hasher);
        ELECTION_MIN + Duration::from_millis(hasher.finish() % 200)
    }

    fn last_term(&self, length: usize) -> u64 {
        length.checked_sub(1).and_then(|last| self.log.get(last)).map_or(0, |(term, _)| *term)
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant) {
        if now < self.deadline {
            return;
        }
        if self.is_leader() {
            self.beat(now);
            return;
        }
        self.term += 1;
        (self.role, self.voted, self.votes, self.leader) = (Role::Candidate, Some(self.me.clone()), 0, None);
        self.deadline = now + self.patience();
        let request = json!({"type": "vote", "term": self.term, "last_term": self.last_term(self.log.len()), "len": self.log.len()});
        self.out.extend(self.others.iter().map(|other| (other.clone(), request.clone())));
        self.count_vote(now);
    }

    fn count_vote(&mut self, now: Instant) {
        self.votes += 1;
        if self.role == Role::Candidate && self.votes * 2 > self.others.len() + 1 {
            (self.role, self.leader) = (Role::Leader, Some(self.me.clone()));
            self.next = self.others.iter().map(|other| (other.clone(), self.log.len())).collect();
            self.matched = self.others.iter().map(|other| (other.clone(), 0)).collect();
            self.propose(Value::Null, now);
        }
    }

    /// Appends an entry, as the leader.
    pub fn propose(&mut self, entry: Value, now: Instant) {
        self.log.push((self.term, entry));
        self.others.clone().iter().for_each(|other| self.append_to(other));
        self.deadline = self.deadline.min(now + HEARTBEAT);
        self.advance();
    }

    /// Says that it still leads, and repeats what was not acknowledged.
    fn beat(&mut self, now: Instant) {
        self.deadline = now + HEARTBEAT;
        self.others.clone().iter().for_each(|other| self.append_to(other));
    }

    /// Sends a follower all that it has not acknowledged.
    fn append_to(&mut self, other: &str) {
        let prev = self.next.get(other).copied().unwrap_or(0).min(self.log.len());
        let request = json!({
            "type": "append", "term": self.term, "prev": prev, "prev_term": self.last_term(prev),
            "entries": self.log[prev..], "commit": self.commit,
        });
        self.out.push((other.to_owned(), request));
    }

    /// Takes a message of another node.
    pub fn receive(&mut self, from: &str, body: &Value, now: Instant) {
        let number = |name: &str| body[name].as_u64().unwrap_or(0);
        let (term, is_current) = (number("term"), number("term") >= self.term);
        if term > self.term {
            (self.term, self.role, self.voted, self.leader) = (term, Role::Follower, None, None);
        }
        match body["type"].as_str() {
            Some("vote") => {
                let up_to_date =
                    (number("last_term"), number("len")) >= (self.last_term(self.log.len()), self.log.len() as u64);
                let granted = is_current && up_to_date && self.voted.as_deref().is_none_or(|voted| voted == from);
                if granted {
                    self.voted = Some(from.to_owned());
                    self.deadline = now + self.patience();
                }
                self.out.push((from.to_owned(), json!({"type": "voted", "term": self.term, "granted": granted})));
            }
            Some("voted") if is_current && body["granted"] == true => self.count_vote(now),
            Some("append") => {
                let length = if is_current { self.follow(from, body, now) } else { None };
                let answer = json!({"type": "appended", "term": self.term, "prev": body["prev"], "len": length});
                self.out.push((from.to_owned(), answer));
            }
            Some("appended") if is_current && self.is_leader() => {
                let next = self.next.entry(from.to_owned()).or_default();
                match body["len"].as_u64() {
                    Some(length) => {
                        let length = (length as usize).min(self.log.len());
                        *next = length.max(*next);
                        let matched = self.matched.entry(from.to_owned()).or_default();
                        *matched = length.max(*matched);
                        self.advance();
                    }
                    // One entry back at a time, as the guide has it.
                    None if number("prev") as usize == *next => *next = next.saturating_sub(1),
                    None => {}
                }
            }
            _ => {}
        }
    }

    /// Takes a leader's entries. Returns up to where the log is the leader's, if they fit.
    fn follow(&mut self, leader: &str, body: &Value, now: Instant) -> Option<usize> {
        (self.role, self.leader) = (Role::Follower, Some(leader.to_owned()));
        self.deadline = now + self.patience();
        let prev = body["prev"].as_u64().unwrap_or(0) as usize;
        if prev > self.log.len() || body["prev_term"] != self.last_term(prev) {
            return None;
        }
        if self.truncates {
            // The bug: a request that comes late knows less than this log, and is no reason to forget the rest.
            self.truncate(prev);
        }
        let mut length = prev;
        for entry in body["entries"].as_array().into_iter().flatten() {
            let term = entry[0].as_u64().unwrap_or(0);
            if self.log.get(length).is_none_or(|(known, _)| *known != term) {
                self.truncate(length);
                self.log.push((term, entry[1].clone()));
            }
            length += 1;
        }
        self.commit = self.commit.max(length.min(body["commit"].as_u64().unwrap_or(0) as usize));
        Some(length)
    }

    /// Forgets all entries behind this one. What the rest of them makes has to be found out again, if more had been carried out.
    fn truncate(&mut self, length: usize) {
        self.log.truncate(length);
        self.commit = self.commit.min(length);
        if self.applied > length {
            (self.applied, self.begins_again) = (0, true);
        }
    }

    /// Commits what a majority has.
    fn advance(&mut self) {
        let mut matched: Vec<usize> = self.matched.values().copied().chain([self.log.len()]).collect();
        matched.sort_unstable();
        let majority = matched[(matched.len() - 1) / 2];
        if self.is_leader() && majority > self.commit && self.last_term(majority) == self.term {
            self.commit = majority;
        }
    }

    /// The next committed entry, once.
    pub fn next_committed(&mut self) -> Option<Value> {
        let (_, entry) = self.log.get_mut(self.applied).filter(|_| self.applied < self.commit)?;
        self.applied += 1;
        let next = entry.clone();
        // It is answered only once.
        entry["by"] = Value::Null;
        Some(next)
    }
}
