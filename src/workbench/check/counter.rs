//! `g-counter` and `pn-counter`: at rest the sum is one that what was added can have made.
//!
//! Acknowledged additions count, each whose outcome is unknown counts or does not. How late other reads may be is no matter of
//! these workloads: a read that no order of the additions explains is a figure. A strict node has none.

use std::time::Duration;

use super::findings::Findings;
use super::{is_refused, kind};
use crate::workbench::history::Operation;

/// Most separate ranges of sums that are kept apart. With more, every two that follow each other are taken for one: a wrong
/// sum may pass then, a right one always does.
const RANGES: usize = 10_000;

/// An addition that was not refused.
struct Addition {
    at: usize,
    delta: i128,
    acknowledged: bool,
}

/// Checks all sums that were read.
pub fn check(findings: &mut Findings<'_>) {
    let additions = additions(findings);
    let certain: i128 = additions.iter().filter(|addition| addition.acknowledged).map(|addition| addition.delta).sum();
    let unknown: Vec<i128> =
        additions.iter().filter(|addition| !addition.acknowledged).map(|addition| addition.delta).collect();
    let ranges = sums(certain, &unknown);
    let bounds = Bounds::new(findings, &additions);
    let (mut at_rest, mut out_of_bounds) = (0, 0);
    for (at, operation) in findings.operations().filter(|(_, operation)| kind(operation) == "read") {
        let Some(answer) = findings.answer(at) else { continue };
        let Some(sum) = answer["value"].as_i64().map(i128::from) else {
            findings.malformed(at, "its `value` is not a whole number");
            continue;
        };
        out_of_bounds += usize::from(!bounds.explain(operation, sum));
        if operation.at_rest {
            at_rest += 1;
            if !ranges.iter().any(|(low, high)| (*low..=*high).contains(&sum)) {
                wrong(findings, at, &additions, &ranges);
            }
        }
    }
    findings.fact("sum of all that was acknowledged", certain);
    findings.fact("additions with unknown outcomes", unknown.len());
    findings.fact("reads that no order explains", out_of_bounds);
    if !additions.is_empty() && at_rest == 0 {
        findings.undecided("no read at rest was answered: nobody knows the sum".into());
    }
}

fn additions(findings: &mut Findings<'_>) -> Vec<Addition> {
    let mut additions = Vec::new();
    for (at, operation) in findings.operations() {
        if kind(operation) == "add" && !is_refused(operation) {
            let delta = i128::from(operation.request["delta"].as_i64().unwrap_or_default());
            additions.push(Addition { at, delta, acknowledged: findings.answer(at).is_some() });
        }
    }
    additions
}

/// The sums that are possible when each of the unknown ones counts or does not: ranges, in order, none touching the next.
fn sums(certain: i128, unknown: &[i128]) -> Vec<(i128, i128)> {
    let mut ranges = vec![(certain, certain)];
    for delta in unknown {
        let mut all: Vec<_> = ranges.iter().map(|(low, high)| (low + delta, high + delta)).collect();
        all.append(&mut ranges);
        all.sort_unstable();
        for (low, high) in all {
            match ranges.last_mut() {
                Some((_, end)) if low <= *end + 1 => *end = high.max(*end),
                _ => ranges.push((low, high)),
            }
        }
        if ranges.len() > RANGES {
            let pairs = ranges.chunks(2).filter_map(|pair| Some((pair.first()?.0, pair.last()?.1)));
            ranges = pairs.collect();
        }
    }
    ranges
}

fn wrong(findings: &mut Findings<'_>, at: usize, additions: &[Addition], ranges: &[(i128, i128)]) {
    findings.anomaly_in_words("wrong sum", &[at], |findings| {
        let (acknowledged, unknown): (Vec<_>, Vec<_>) = additions.iter().partition(|addition| addition.acknowledged);
        let unknown: Vec<usize> = unknown.iter().map(|addition| addition.at).take(10).collect();
        let shown = |(low, high): &(i128, i128)| if low == high { low.to_string() } else { format!("{low} to {high}") };
        let possible: Vec<_> = ranges.iter().take(10).map(shown).collect();
        let more = if ranges.len() > 10 { ", ..." } else { "" };
        let either = if unknown.is_empty() {
            String::new()
        } else {
            format!("\nThe outcome of these is unknown; each may count or not:{}", findings.lines(&unknown))
        };
        format!(
            "At rest, when all faults were over, a read has another sum than {} acknowledged additions can \
             have made, which is {}{more}.{}{either}",
            acknowledged.len(),
            possible.join(", or "),
            findings.lines(&[at]),
        )
    });
}

/// What a read may see if additions take effect at one moment between beginning and end.
struct Bounds {
    /// By the end of acknowledged additions: sum, sum of the positive ones, and of the negative ones, of all up to then.
    ended: Vec<(Duration, Sums)>,
    /// The same by the beginning of all additions.
    began: Vec<(Duration, Sums)>,
}

#[derive(Clone, Copy, Default)]
struct Sums {
    up: i128,
    down: i128,
}

impl Bounds {
    fn new(findings: &Findings<'_>, additions: &[Addition]) -> Self {
        let at = |addition: &Addition| findings.operation(addition.at);
        let acknowledged = additions.iter().filter(|addition| addition.acknowledged);
        Bounds {
            ended: running(acknowledged.map(|addition| (at(addition).ended, addition.delta)).collect()),
            began: running(additions.iter().map(|addition| (at(addition).began, addition.delta)).collect()),
        }
    }

    /// Whether a sum is not too small and not too large.
    fn explain(&self, read: &Operation, sum: i128) -> bool {
        let before = self.ended.partition_point(|(ended, _)| *ended < read.began);
        let possible = self.began.partition_point(|(began, _)| *began <= read.ended);
        let certain = before.checked_sub(1).map_or(Sums::default(), |last| self.ended[last].1);
        let possible = possible.checked_sub(1).map_or(Sums::default(), |last| self.began[last].1);
        (certain.up + possible.down..=possible.up + certain.down).contains(&sum)
    }
}

fn running(mut deltas: Vec<(Duration, i128)>) -> Vec<(Duration, Sums)> {
    deltas.sort_unstable();
    let mut sums = Sums::default();
    let add = |(time, delta): (Duration, i128)| {
        sums.up += delta.max(0);
        sums.down += delta.min(0);
        (time, sums)
    };
    deltas.into_iter().map(add).collect()
}
