//! `broadcast` and `g-set`: what was added stays, nothing else appears, and at rest every node has all of it.
//!
//! How late a read may be is no matter of these workloads: what was acknowledged before a read began and is not in it is a
//! figure, as in Jepsen's `set-full`. A strict node has none.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde_json::Value;

use super::findings::{Findings, seconds};
use super::{is_refused, kind};
use crate::figures::duration;

/// What a workload calls things.
pub struct Names {
    add: &'static str,
    /// The field with the element that is added.
    element: &'static str,
    /// The field with all of them in the answer to a `read`.
    elements: &'static str,
}

/// `broadcast`.
pub const BROADCAST: Names = Names { add: "broadcast", element: "message", elements: "messages" };
/// `g-set`.
pub const G_SET: Names = Names { add: "add", element: "element", elements: "value" };

/// What is known of an element.
struct Element {
    /// How often it was asked for and not refused.
    times: usize,
    /// The first request, one that was not refused if there is any.
    asked: usize,
    asked_at: Duration,
    /// The first acknowledgement.
    acknowledged: Option<Duration>,
    /// Since when somebody knows that it is there, and by which operation: the acknowledgement, or a read.
    known: Option<(Duration, usize)>,
}

/// An answered read.
struct Read<'a> {
    at: usize,
    began: Duration,
    at_rest: bool,
    elements: &'a [Value],
}

/// Checks what was read against what was added.
pub fn check(findings: &mut Findings<'_>, names: &Names) {
    let mut elements = requested(findings, names);
    let reads = reads(findings, names);
    for read in &reads {
        look_at(findings, &mut elements, read);
    }
    for read in reads.iter().filter(|read| read.at_rest) {
        look_for_losses(findings, &elements, read);
    }
    look_for_staleness(findings, &elements, &reads);
    let acknowledged = elements.values().filter(|element| element.acknowledged.is_some()).count();
    findings.fact("elements", elements.len());
    findings.fact("acknowledged", acknowledged);
    if acknowledged > 0 && !reads.iter().any(|read| read.at_rest) {
        findings.undecided("no read at rest was answered: nobody knows what was lost".into());
    }
}

fn requested<'a>(findings: &mut Findings<'a>, names: &Names) -> HashMap<&'a Value, Element> {
    let mut elements: HashMap<&Value, Element> = HashMap::new();
    for (at, operation) in findings.operations().filter(|(_, operation)| kind(operation) == names.add) {
        let acknowledged = findings.answer(at).map(|_| operation.ended);
        let element = elements.entry(&operation.request[names.element]).or_insert(Element {
            times: 0,
            asked: at,
            asked_at: Duration::MAX,
            acknowledged: None,
            known: None,
        });
        if is_refused(operation) {
            continue;
        }
        element.times += 1;
        if operation.began < element.asked_at {
            (element.asked, element.asked_at) = (at, operation.began);
        }
        if let Some(now) = acknowledged {
            element.acknowledged = Some(element.acknowledged.map_or(now, |before| before.min(now)));
            learn(element, now, at);
        }
    }
    elements
}

fn learn(element: &mut Element, now: Duration, at: usize) {
    if element.known.is_none_or(|(before, _)| now < before) {
        element.known = Some((now, at));
    }
}

fn reads<'a>(findings: &mut Findings<'a>, names: &Names) -> Vec<Read<'a>> {
    let mut reads = Vec::new();
    for (at, operation) in findings.operations().filter(|(_, operation)| kind(operation) == "read") {
        let Some(answer) = findings.answer(at) else { continue };
        let Some(elements) = answer[names.elements].as_array() else {
            findings.malformed(at, format_args!("it has no list `{}`", names.elements));
            continue;
        };
        reads.push(Read { at, began: operation.began, at_rest: operation.at_rest, elements });
    }
    reads
}

/// Whether all that a read has may be there, and as often.
fn look_at(findings: &mut Findings<'_>, elements: &mut HashMap<&Value, Element>, read: &Read<'_>) {
    let ended = findings.operation(read.at).ended;
    let mut times: HashMap<&Value, usize> = HashMap::with_capacity(read.elements.len());
    for value in read.elements {
        let Some(element) = elements.get_mut(value) else {
            findings.anomaly("unexpected", &[read.at], || {
                format!("A read has {value}, and nobody ever asked for that to be added.")
            });
            continue;
        };
        let places = [element.asked, read.at];
        if element.times == 0 || element.asked_at > ended {
            let why = if element.times == 0 { "which was refused" } else { "which was asked for only later" };
            findings.anomaly("unexpected", &places, || format!("A read has {value}, {why}."));
        }
        let count = times.entry(value).or_default();
        *count += 1;
        if *count == element.times.max(1) + 1 {
            findings.anomaly("duplicated", &places, || format!("A read has {value} more often than it was added."));
        }
        learn(element, ended, read.at);
    }
}

/// Whether all that somebody knew to be there is in this read at rest.
fn look_for_losses(findings: &mut Findings<'_>, elements: &HashMap<&Value, Element>, read: &Read<'_>) {
    let has: HashSet<&Value> = read.elements.iter().collect();
    let mut lost: Vec<_> = elements.iter().filter(|(value, _)| !has.contains(*value)).collect();
    lost.sort_by_key(|(_, element)| element.asked);
    for (value, element) in lost {
        let Some((since, witness)) = element.known.filter(|(since, _)| *since < read.began) else { continue };
        let mut places = vec![element.asked, witness, read.at];
        places.dedup();
        findings.anomaly("lost", &places, || {
            let since = seconds(since);
            format!("{value} was there at {since} s, and is missing in a read at rest, when all faults were over.")
        });
    }
}

/// How far reads were behind what had been acknowledged.
fn look_for_staleness(findings: &mut Findings<'_>, elements: &HashMap<&Value, Element>, reads: &[Read<'_>]) {
    let mut acknowledged: Vec<_> =
        elements.iter().filter_map(|(value, element)| Some((element.acknowledged?, *value))).collect();
    acknowledged.sort_by_key(|(time, _)| *time);
    let (mut stale, mut worst) = (0, Duration::ZERO);
    for read in reads {
        let due = &acknowledged[..acknowledged.partition_point(|(time, _)| *time < read.began)];
        let has: HashSet<&Value> = read.elements.iter().collect();
        // The first that is missing was due for longest.
        if let Some((time, _)) = due.iter().find(|(_, value)| !has.contains(value)) {
            stale += 1;
            worst = worst.max(read.began - *time);
        }
    }
    findings.fact("stale reads", stale);
    findings.fact("oldest of what stale reads had missed", duration(worst));
}
