//! Cycles in words.

use super::Kind;
use super::cycles::{Cycle, Step};
use super::graph::Why;
use super::transactions::Transactions;
use crate::workbench::check::findings::{Findings, seconds};

/// Adds a cycle to what was found, explained step by step.
pub fn tell(findings: &mut Findings<'_>, transactions: &Transactions<'_>, cycle: &Cycle) {
    let places: Vec<usize> = cycle.steps.iter().map(|step| transactions.all[step.from as usize].at).collect();
    findings.anomaly_in_words(cycle.name, &places, |findings| explanation(findings, transactions, cycle, &places));
}

fn explanation(findings: &Findings<'_>, transactions: &Transactions<'_>, cycle: &Cycle, places: &[usize]) -> String {
    let all: String =
        (1..).zip(places).map(|(number, at): (usize, _)| format!("\n  T{number} is {}", findings.line(*at))).collect();
    let count = cycle.steps.len();
    let steps: String = (1..)
        .zip(&cycle.steps)
        .map(|(number, step)| {
            let names = [format!("T{number}"), format!("T{}", number % count + 1)];
            format!("\n  {} comes before {}: {}", names[0], names[1], reason(transactions, step, &names))
        })
        .collect();
    format!(
        "{}. In an order of one transaction at a time none comes before itself, but here each comes before the next, and \
         the last before the first:{all}{steps}",
        meaning(cycle.name),
    )
}

/// What a cycle of this name is, for whoever has not read Adya.
fn meaning(name: &str) -> &'static str {
    match name.strip_suffix("-process").or(name.strip_suffix("-realtime")).unwrap_or(name) {
        "G0" => "Writes of transactions are mixed up (a write cycle)",
        "G1c" => "Transactions have seen each other's writes (a circular flow of information)",
        "G-single" => "One transaction has seen only some of what was there (read skew, or a stale read)",
        _ => "Transactions have missed each other's writes (a cycle of overtaken reads, like write skew)",
    }
}

/// Why a step's first transaction comes before its second one.
fn reason(transactions: &Transactions<'_>, step: &Step, [one, other]: &[String; 2]) -> String {
    let [first, second] = [step.from, step.to].map(|number| &transactions.all[number as usize]);
    match step.why {
        Why::RealTime => {
            format!("{one} ended at {} s, and {other} began at {} s", seconds(first.ended), seconds(second.began))
        }
        Why::Process => format!("process {} was done with {one} when it began {other}", first.process),
        _ => dependency(transactions, step, [one, other]),
    }
}

fn dependency(transactions: &Transactions<'_>, step: &Step, [one, other]: [&String; 2]) -> String {
    let (key, before) = match transactions.versions.get(step.version as usize) {
        Some(version) => (version.key, Some(version.value)),
        None => (step.version - transactions.versions.len() as u32, None),
    };
    let second = &transactions.all[step.to as usize];
    let next = match transactions.kind {
        Kind::Lists => second.writes(key).next(),
        Kind::Registers => second.writes(key).next_back(),
    };
    let next = next.map_or(String::new(), |version| transactions.versions[version as usize].value.to_string());
    let before = before.map_or("nothing".into(), ToString::to_string);
    let key = transactions.keys[key as usize];
    let lists = transactions.kind == Kind::Lists;
    let times = if step.by_time { " (later, by the times of those who wrote or read them)" } else { "" };
    match step.why {
        Why::WriteRead if lists => format!("{other} read key {key} with {before} at the end, which {one} appended"),
        Why::WriteRead => format!("{other} read {before} from key {key}, which {one} wrote"),
        Why::WriteWrite if lists => {
            format!("{one} appended {before} to key {key}, and {other} appended {next} after it")
        }
        Why::WriteWrite => format!("{one} wrote {before} to key {key}, and {other} replaced it with {next}{times}"),
        _ if lists => format!("{one} read key {key} with {before} at the end, before {other} appended {next}"),
        _ => format!("{one} read {before} from key {key}, which {other} replaced with {next}{times}"),
    }
}
