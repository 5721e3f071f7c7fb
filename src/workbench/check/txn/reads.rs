//! What committed transactions read: whether each read may be, looked at alone; and what they saw of others.

use std::collections::{HashMap, HashSet};

use super::Kind;
use super::transactions::{Fate, Step, Transactions};
use crate::workbench::check::findings::Findings;

/// What a transaction saw of a key before it wrote to it.
pub struct Read<'t> {
    /// Its number.
    pub reader: u32,
    pub key: u32,
    /// What was there: a list's elements, a register's value or nothing.
    pub seen: &'t [u32],
    /// The last version that the reader itself wrote to the key afterwards.
    pub wrote: Option<u32>,
}

/// What a transaction knows of a key.
struct Known<'t> {
    key: u32,
    /// What was there before it wrote.
    before: Option<&'t [u32]>,
    /// What it has written.
    own: Vec<u32>,
}

/// Looks at every read, and returns what was seen of others' writes: each key once for each transaction.
pub fn check<'t>(findings: &mut Findings<'_>, transactions: &'t Transactions<'_>) -> Vec<Read<'t>> {
    let mut reads = Vec::new();
    for (number, transaction) in (0..).zip(&transactions.all) {
        if transaction.fate != Fate::Committed {
            continue;
        }
        let mut known: Vec<Known<'_>> = Vec::new();
        for step in &transaction.steps {
            let (Step::Read { key, .. } | Step::Write { key, .. }) = step;
            let place = known.iter().position(|known| known.key == *key).unwrap_or_else(|| {
                known.push(Known { key: *key, before: None, own: Vec::new() });
                known.len() - 1
            });
            match step {
                Step::Write { version, .. } => known[place].own.push(*version),
                Step::Read { seen, .. } => {
                    look_at(findings, transactions, number, seen);
                    agree(findings, transactions, number, &mut known[place], seen);
                }
            }
        }
        reads.extend(known.iter().filter_map(|known| {
            Some(Read { reader: number, key: known.key, seen: known.before?, wrote: known.own.last().copied() })
        }));
    }
    reads
}

/// Whether a transaction's read of a key agrees with what it has read of it before, and with its own writes.
fn agree<'t>(
    findings: &mut Findings<'_>,
    transactions: &Transactions<'_>,
    reader: u32,
    known: &mut Known<'t>,
    seen: &'t [u32],
) {
    let is_own = |version: &u32| transactions.versions[*version as usize].writer == Some(reader);
    let is_early = seen.iter().any(|version| is_own(version) && !known.own.contains(version));
    let before = match transactions.kind {
        Kind::Lists => seen.strip_suffix(&known.own[..]),
        // Its own write hides what was there before.
        Kind::Registers if known.own.is_empty() => Some(seen),
        Kind::Registers => (seen.last() == known.own.last()).then(|| known.before.unwrap_or_default()),
    };
    let at = transactions.all[reader as usize].at;
    let key = transactions.keys[known.key as usize];
    if is_early {
        findings.anomaly("internal", &[at], || {
            format!("A transaction's read of key {key} has what the transaction itself wrote only afterwards.")
        });
    } else if before.is_none() || known.before.is_some_and(|known| Some(known) != before) {
        findings.anomaly("internal", &[at], || {
            format!("A transaction's read of key {key} contradicts what it has itself read or written before.")
        });
    } else if transactions.kind == Kind::Lists || known.own.is_empty() {
        known.before = before;
    }
}

/// Whether what was read may be read at all.
fn look_at(findings: &mut Findings<'_>, transactions: &Transactions<'_>, reader: u32, seen: &[u32]) {
    let at = transactions.all[reader as usize].at;
    let mut distinct = HashSet::with_capacity(seen.len());
    for version in seen {
        let known = &transactions.versions[*version as usize];
        let (value, key) = (known.value, transactions.keys[known.key as usize]);
        if !distinct.insert(version) {
            findings.anomaly("duplicate", &[at], || format!("Key {key} was read with {value} in it twice."));
        }
        let Some(writer) = known.writer else {
            findings.anomaly("unexpected", &[at], || {
                format!("Key {key} was read with {value}, and nobody ever asked for that to be written.")
            });
            continue;
        };
        let writer = &transactions.all[writer as usize];
        if writer.fate == Fate::Refused {
            findings.anomaly("G1a", &[writer.at, at], || {
                format!("Aborted read: key {key} was read with {value}, whose write was refused and never took effect.")
            });
        }
    }
    let Some(&last) = seen.last() else { return };
    let known = &transactions.versions[last as usize];
    let (value, key) = (known.value, transactions.keys[known.key as usize]);
    if let Some(writer) = known.writer.filter(|writer| !known.is_last && *writer != reader) {
        findings.anomaly("G1b", &[transactions.all[writer as usize].at, at], || {
            format!(
                "Intermediate read: key {key} was read when {value} was the last there, in the middle of a transaction \
                 that then went on writing to it."
            )
        });
    }
}

/// Whether every transaction that has read a key and then written to it is the only one to do so with what it read.
pub fn check_updates(findings: &mut Findings<'_>, transactions: &Transactions<'_>, reads: &[Read<'_>]) {
    let mut updates: HashMap<(u32, Option<u32>), u32> = HashMap::new();
    for read in reads.iter().filter(|read| read.wrote.is_some()) {
        let Some(first) = updates.insert((read.key, read.seen.last().copied()), read.reader) else { continue };
        let places = [first, read.reader].map(|number| transactions.all[number as usize].at);
        let key = transactions.keys[read.key as usize];
        findings.anomaly("lost update", &places, || {
            format!(
                "Two transactions have read the same of key {key}, and then both have written to it: neither knew of the \
                 other, so one update is lost."
            )
        });
    }
}
