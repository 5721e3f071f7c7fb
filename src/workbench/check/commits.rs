//! The other half of `kafka`: the offsets that readers commit.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::findings::Findings;
use super::kafka::object;
use super::{is_refused, kind};

/// A commit of one key that was not refused.
struct Commit {
    at: usize,
    offset: u64,
    began: Duration,
    /// `MAX` if its outcome is unknown.
    ended: Duration,
}

/// All commits of a key.
#[derive(Default)]
struct Commits {
    all: Vec<Commit>,
    /// By the end of acknowledged commits: of all that ended by then the greatest, and the one that began last.
    ended: Vec<(Duration, usize, usize)>,
}

/// Checks what was listed against what was committed.
pub fn check(findings: &mut Findings<'_>) {
    let mut keys = commits(findings);
    for commits in keys.values_mut() {
        commits.summarize();
    }
    let mut behind = 0;
    for (at, operation) in findings.operations().filter(|(_, operation)| kind(operation) == "list_committed_offsets") {
        let Some(answer) = findings.answer(at) else { continue };
        let Some(listed) = object(answer, "offsets") else {
            findings.malformed(at, "it has no object `offsets`");
            continue;
        };
        for key in operation.request["keys"].as_array().into_iter().flatten().filter_map(|key| key.as_str()) {
            let offset = match listed.get(key).map(|offset| (offset.is_null(), offset.as_u64())) {
                None | Some((true, _)) => None,
                Some((_, Some(offset))) => Some(offset),
                Some((_, None)) => {
                    findings
                        .malformed(at, format_args!("the offset of the key {key:?} is not a whole number from 0 on"));
                    continue;
                }
            };
            match keys.get(key) {
                Some(commits) => behind += commits.look_at(findings, key, at, offset),
                None if offset.is_some() => nowhere(findings, key, at),
                None => {}
            }
        }
    }
    findings.fact("committed offsets behind the greatest", behind);
}

fn commits<'a>(findings: &mut Findings<'a>) -> HashMap<&'a str, Commits> {
    let mut keys: HashMap<&str, Commits> = HashMap::new();
    for (at, operation) in findings.operations() {
        if kind(operation) != "commit_offsets" || is_refused(operation) {
            continue;
        }
        let ended = if findings.answer(at).is_some() { operation.ended } else { Duration::MAX };
        for (key, offset) in object(&operation.request, "offsets").into_iter().flatten() {
            if let Some(offset) = offset.as_u64() {
                let commit = Commit { at, offset, began: operation.began, ended };
                keys.entry(key).or_default().all.push(commit);
            }
        }
    }
    keys
}

fn nowhere(findings: &mut Findings<'_>, key: &str, at: usize) {
    findings.anomaly("unexpected commit", &[at], || {
        format!("An offset of key {key:?} is listed as committed, and nobody had asked for that.")
    });
}

impl Commits {
    fn summarize(&mut self) {
        let mut acknowledged: BTreeMap<(Duration, usize), usize> = BTreeMap::new();
        for (place, commit) in self.all.iter().enumerate().filter(|(_, commit)| commit.ended < Duration::MAX) {
            acknowledged.insert((commit.ended, place), place);
        }
        let (mut greatest, mut last) = (None, None);
        for ((ended, _), place) in acknowledged {
            let best = |known: Option<usize>, better: bool| known.filter(|_| !better).unwrap_or(place);
            let new = &self.all[place];
            let is_greater = greatest.is_none_or(|known: usize| self.all[known].offset < new.offset);
            let is_later = last.is_none_or(|known: usize| self.all[known].began < new.began);
            (greatest, last) = (Some(best(greatest, is_greater)), Some(best(last, is_later)));
            self.ended.push((ended, greatest.unwrap_or(place), last.unwrap_or(place)));
        }
    }

    /// Looks at what a list says. Returns 1 if that is less than the greatest that had been acknowledged.
    fn look_at(&self, findings: &mut Findings<'_>, key: &str, at: usize, offset: Option<u64>) -> u64 {
        let list = findings.operation(at);
        let asked = |commit: &&Commit| Some(commit.offset) == offset && commit.began <= list.ended;
        if offset.is_some() && !self.all.iter().any(|commit| asked(&commit)) {
            nowhere(findings, key, at);
            return 0;
        }
        let before = self.ended.partition_point(|(ended, ..)| *ended < list.began);
        let Some(&(_, greatest, last)) = before.checked_sub(1).and_then(|place| self.ended.get(place)) else {
            return 0;
        };
        let (greatest, last) = (&self.all[greatest], &self.all[last]);
        if offset.is_some_and(|offset| offset >= greatest.offset) {
            return 0;
        }
        // Where the last commit counts: one that no later one had replaced.
        if !self.all.iter().filter(asked).any(|commit| commit.ended >= last.began) {
            findings.anomaly("lost commit", &[greatest.at, at], || {
                let listed = offset.map_or("nothing".into(), |offset| format!("offset {offset}"));
                format!(
                    "Of key {key:?}, {listed} is listed as committed, after the commit of offset {} had been acknowledged.",
                    greatest.offset
                )
            });
        }
        1
    }
}
