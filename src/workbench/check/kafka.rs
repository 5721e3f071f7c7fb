//! `kafka`: every message has one offset, keeps it, and is there for whoever asks.
//!
//! What is demanded is what Maelstrom demands of any node. Two things more are told as figures, which are zero for a strict
//! node: offsets that no message has (`gaps`), and messages whose offset is not after that of one whose sending had ended when
//! their own began (`sends out of order`).
//!
//! What a commit does to a greater offset that was committed before is left open by the protocol: the greatest may stay, or the
//! last may count. What is listed must be right in one of these ways; a figure tells how often it was not the greatest.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::iter;
use std::time::Duration;

use serde_json::{Map, Value};

use super::findings::Findings;
use super::{commits, is_refused, kind};

/// What is known of one log.
#[derive(Default)]
struct Log<'a> {
    /// By message: the request to send it that was not refused, if there is any, and how often there was one.
    sent: HashMap<&'a Value, Sent>,
    /// By offset: the message, and the operations that told so.
    at: BTreeMap<u64, Vec<(&'a Value, usize)>>,
    /// By message: its offsets, each with an operation that told so.
    offsets: HashMap<&'a Value, BTreeMap<u64, usize>>,
    /// By offset: the acknowledged sending.
    acknowledged: BTreeMap<u64, usize>,
    polls: Vec<Poll<'a>>,
}

struct Sent {
    at: usize,
    times: usize,
}

/// What a poll said of one log.
struct Poll<'a> {
    at: usize,
    from: u64,
    messages: Vec<(u64, &'a Value)>,
}

impl Poll<'_> {
    fn offsets(&self) -> impl Iterator<Item = u64> + '_ {
        self.messages.iter().map(|(offset, _)| *offset)
    }

    /// The first offset that it does not say anything of any more.
    fn end(&self) -> u64 {
        self.offsets().map(|offset| offset.saturating_add(1)).max().unwrap_or(self.from)
    }
}

/// Checks all logs.
pub fn check(findings: &mut Findings<'_>) {
    let mut logs: BTreeMap<String, Log<'_>> = BTreeMap::new();
    for (at, operation) in findings.operations() {
        match kind(operation) {
            "send" => send(findings, &mut logs, at),
            "poll" => poll(findings, &mut logs, at),
            _ => {}
        }
    }
    let (mut gaps, mut disorder, mut unseen) = (0, 0, 0);
    for (key, log) in &logs {
        look_for_unexpected(findings, key, log);
        look_for_two(findings, key, log);
        for poll in &log.polls {
            look_at(findings, key, log, poll);
        }
        unseen += look_for_losses(findings, key, log);
        disorder += look_for_disorder(findings, key, log);
        let end = log.at.last_key_value().map_or(0, |(last, _)| last.saturating_add(1));
        gaps = u64::saturating_add(gaps, end - log.at.len() as u64);
    }
    findings.fact("keys", logs.len());
    findings.fact("messages with offsets", logs.values().map(|log| log.at.len()).sum::<usize>());
    findings.fact("gaps", gaps);
    findings.fact("sends out of order", disorder);
    if unseen > 0 {
        findings.undecided(format!(
            "{unseen} messages had been acknowledged or read, and no poll at rest that was answered went so far: nobody \
             knows whether they are lost"
        ));
    }
    commits::check(findings);
}

/// An object in a body.
pub fn object<'a>(body: &'a Value, name: &str) -> Option<&'a Map<String, Value>> {
    body.get(name)?.as_object()
}

fn send<'a>(findings: &mut Findings<'a>, logs: &mut BTreeMap<String, Log<'a>>, at: usize) {
    let operation = findings.operation(at);
    let message = &operation.request["msg"];
    let log = logs.entry(name(&operation.request["key"])).or_default();
    let sent = log.sent.entry(message).or_insert(Sent { at, times: 0 });
    if !is_refused(operation) {
        if sent.times == 0 {
            sent.at = at;
        }
        sent.times += 1;
    }
    let Some(answer) = findings.answer(at) else { return };
    let Some(offset) = answer["offset"].as_u64() else {
        findings.malformed(at, "its `offset` is not a whole number from 0 on");
        return;
    };
    log.acknowledged.entry(offset).or_insert(at);
    learn(log, offset, message, at);
}

/// A key, however a foreign node or generator writes it.
fn name(key: &Value) -> String {
    key.as_str().map_or_else(|| key.to_string(), str::to_owned)
}

fn learn<'a>(log: &mut Log<'a>, offset: u64, message: &'a Value, at: usize) {
    let there = log.at.entry(offset).or_default();
    if there.iter().all(|(known, _)| *known != message) {
        there.push((message, at));
    }
    log.offsets.entry(message).or_default().entry(offset).or_insert(at);
}

fn poll<'a>(findings: &mut Findings<'a>, logs: &mut BTreeMap<String, Log<'a>>, at: usize) {
    let Some(asked) = object(&findings.operation(at).request, "offsets") else { return };
    let Some(answer) = findings.answer(at) else { return };
    let Some(told) = object(answer, "msgs") else {
        findings.malformed(at, "it has no object `msgs`");
        return;
    };
    if let Some(other) = told.keys().find(|key| !asked.contains_key(*key)) {
        findings.malformed(at, format_args!("it has messages of the key {other:?}, for which nobody asked"));
    }
    for (key, from) in asked {
        let Some(messages) = messages(told.get(key)) else {
            findings
                .malformed(at, format_args!("its `msgs` of the key {key:?} are not pairs of an offset and a message"));
            continue;
        };
        let log = logs.entry(key.clone()).or_default();
        for (offset, message) in &messages {
            learn(log, *offset, message, at);
        }
        log.polls.push(Poll { at, from: from.as_u64().unwrap_or(0), messages });
    }
}

fn messages(told: Option<&Value>) -> Option<Vec<(u64, &Value)>> {
    let Some(told) = told else { return Some(Vec::new()) };
    let pair = |pair: &'_ Value| matches!(pair.as_array().map(Vec::len), Some(2));
    told.as_array()?.iter().map(|told| pair(told).then(|| Some((told[0].as_u64()?, &told[1])))?).collect()
}

/// Messages that nobody sent.
fn look_for_unexpected(findings: &mut Findings<'_>, key: &str, log: &Log<'_>) {
    for (offset, (message, at)) in log.at.iter().flat_map(|(offset, all)| all.iter().map(move |one| (offset, *one))) {
        let (why, places) = match log.sent.get(message) {
            None => ("which nobody ever asked to be sent", vec![at]),
            Some(sent) if sent.times == 0 => ("the sending of which was refused", vec![sent.at, at]),
            Some(sent) if findings.operation(sent.at).began > findings.operation(at).ended => {
                ("which was sent only later", vec![at, sent.at])
            }
            Some(_) => continue,
        };
        findings.anomaly("unexpected", &places, || format!("Key {key:?} has {message} at offset {offset}, {why}."));
    }
}

/// Two messages with one offset, and messages with two.
fn look_for_two(findings: &mut Findings<'_>, key: &str, log: &Log<'_>) {
    for (offset, messages) in &log.at {
        if let [(one, first), (other, second), ..] = messages[..] {
            findings.anomaly("inconsistent offsets", &[first, second], || {
                format!("Key {key:?} has two messages at offset {offset}: {one} and {other}.")
            });
        }
    }
    for (message, offsets) in &log.offsets {
        let times = log.sent.get(message).map_or(1, |sent| sent.times.max(1));
        if offsets.len() <= times {
            continue;
        }
        let places: Vec<usize> = offsets.values().copied().take(times + 1).collect();
        findings.anomaly("duplicated", &places, || {
            let all: Vec<String> = offsets.keys().map(u64::to_string).collect();
            format!("Key {key:?} has {message} at the offsets {}, and it was sent {times} times.", all.join(" and "))
        });
    }
}

/// Whether a poll has what it was asked for, in order, and leaves nothing out.
fn look_at(findings: &mut Findings<'_>, key: &str, log: &Log<'_>, poll: &Poll<'_>) {
    let befores = iter::once(None).chain(poll.offsets().map(Some));
    for (before, offset) in befores.zip(poll.offsets()) {
        let from = before.map_or(poll.from, |before| before.saturating_add(1));
        if offset < from {
            findings.anomaly("nonmonotonic poll", &[poll.at], || {
                format!("A poll of key {key:?} has offset {offset} where only {from} or more can come.")
            });
            return;
        }
        if let Some((skipped, known)) = log.at.range(from..offset).next() {
            let (message, witness) = known[0];
            findings.anomaly("skipped", &[witness, poll.at], || {
                format!(
                    "A poll of key {key:?} goes on with offset {offset} where {from} or more was to come, and leaves out \
                     {message} at offset {skipped}."
                )
            });
            return;
        }
    }
}

/// Messages that were there, and are not any more when all faults are over; or that everybody went past. Returns of how many
/// nobody knows.
fn look_for_losses(findings: &mut Findings<'_>, key: &str, log: &Log<'_>) -> u64 {
    let is_at_rest = |poll: &&Poll<'_>| findings.operation(poll.at).at_rest;
    let at_rest: Vec<&Poll<'_>> = log.polls.iter().filter(is_at_rest).collect();
    let there: HashSet<u64> = at_rest.iter().flat_map(|poll| poll.offsets()).collect();
    // What at least one of them must have: up to its end, or if that is where it began, all there is.
    let covers =
        |poll: &&&Poll<'_>, offset: u64| poll.from <= offset && (poll.messages.is_empty() || offset < poll.end());
    let polled: HashSet<u64> = log.polls.iter().flat_map(Poll::offsets).collect();
    let farthest = log.polls.iter().max_by_key(|poll| poll.end());
    let mut unknown = 0;
    let mut lost = Vec::new();
    for (offset, known) in log.at.iter().filter(|(offset, _)| !there.contains(offset)) {
        let (message, witness) = known[0];
        let is_passed = |poll: &&Poll<'_>| *offset < poll.end() && !polled.contains(offset);
        match at_rest.iter().find(|poll| covers(poll, *offset)).copied().or(farthest.filter(is_passed)) {
            Some(poll) => lost.push((*offset, message, witness, poll.at)),
            None => unknown += 1,
        }
    }
    for (offset, message, witness, poll) in lost {
        findings.anomaly("lost", &[witness, poll], || {
            format!(
                "Key {key:?} had {message} at offset {offset}, and no poll has it that should have seen it in the end."
            )
        });
    }
    unknown
}

/// Messages that a process sent one after the other, and that are not in this order. Returns how many of them all, whoever
/// sent them, are not in the order of time.
fn look_for_disorder(findings: &mut Findings<'_>, key: &str, log: &Log<'_>) -> u64 {
    // In the order of offsets: nobody began after the end of a later one.
    let mut disorder = 0;
    let mut first_end: Option<Duration> = None;
    let mut first_ends: HashMap<u64, (Duration, usize, u64)> = HashMap::new();
    for (offset, at) in log.acknowledged.iter().rev() {
        let operation = findings.operation(*at);
        disorder += u64::from(first_end.is_some_and(|end| end < operation.began));
        first_end = Some(first_end.map_or(operation.ended, |end| end.min(operation.ended)));
        match first_ends.get(&operation.process) {
            Some((end, later, greater)) if *end < operation.began => {
                findings.anomaly("nonmonotonic send", &[*later, *at], || {
                    format!("A process sent two messages of key {key:?}, and the second one has offset {offset}, before {greater}.")
                });
            }
            Some((end, ..)) if *end <= operation.ended => {}
            _ => {
                first_ends.insert(operation.process, (operation.ended, *at, *offset));
            }
        }
    }
    disorder
}
