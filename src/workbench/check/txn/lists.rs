//! The order of appends: every read tells all that were before it.

use std::collections::{HashMap, HashSet};

use super::order::Order;
use super::reads::Read;
use super::transactions::{Fate, Step, Transaction, Transactions};
use crate::figures::excerpt;
use crate::workbench::check::findings::{EXCERPT_CHARS, Findings};

/// The longest read of a list, and who read it.
#[derive(Clone, Copy)]
struct Longest<'t> {
    list: &'t [u32],
    reader: &'t Transaction,
}

/// What the longest reads tell. All others must be beginnings of them; those that are not are taken out.
pub fn order(findings: &mut Findings<'_>, transactions: &Transactions<'_>, reads: &mut Vec<Read<'_>>) -> Order {
    let longest = longest(transactions);
    look_for_contradictions(findings, transactions, &longest);
    reads.retain(|read| longest.get(&read.key).is_some_and(|longest| longest.list.starts_with(read.seen)));
    let mut order = Order::new(transactions);
    let replacements = order.replacements(transactions, reads);
    let unseen = unseen(transactions, &longest);
    for key in 0..transactions.keys.len() as u32 {
        let list = longest.get(&key).map_or(&[][..], |longest| longest.list);
        look_for_dirty_updates(findings, transactions, list);
        look_for_torn_appends(findings, transactions, key, list);
        let mut last = order.initial(key);
        let mut placed = HashSet::with_capacity(list.len());
        for version in list.iter().filter(|version| transactions.live_writer(**version).is_some()) {
            if placed.insert(version) {
                order.add(last, *version, false);
                last = *version;
            }
        }
        // What nobody has read comes after all that was read. First what follows that with nothing between: what the same
        // transaction appended last, or what was appended by one that has read just that.
        let mut unseen = unseen.get(&key).cloned().unwrap_or_default();
        let writer = list.iter().rev().find_map(|version| transactions.live_writer(*version));
        let rest = writer.and_then(|writer| transactions.all[writer as usize].writes(key).next_back());
        let first = [rest, replacements.get(&last).copied()].into_iter().flatten().find(|first| unseen.contains(first));
        if let Some(first) = first {
            order.add(last, first, false);
            unseen.retain(|version| *version != first);
            last = first;
        }
        unseen.iter().for_each(|version| order.add(last, *version, false));
    }
    order
}

/// All reads of committed transactions, with what they themselves had appended.
fn lists<'t>(transactions: &'t Transactions<'_>) -> impl Iterator<Item = (u32, Longest<'t>)> {
    let committed = transactions.all.iter().filter(|transaction| transaction.fate == Fate::Committed);
    committed.flat_map(|reader| {
        reader.steps.iter().filter_map(move |step| match step {
            Step::Read { key, seen } => Some((*key, Longest { list: seen, reader })),
            Step::Write { .. } => None,
        })
    })
}

fn longest<'t>(transactions: &'t Transactions<'_>) -> HashMap<u32, Longest<'t>> {
    let mut longest: HashMap<u32, Longest<'t>> = HashMap::new();
    for (key, read) in lists(transactions) {
        let known = longest.entry(key).or_insert(read);
        if read.list.len() > known.list.len() {
            *known = read;
        }
    }
    longest
}

fn look_for_contradictions(
    findings: &mut Findings<'_>,
    transactions: &Transactions<'_>,
    longest: &HashMap<u32, Longest<'_>>,
) {
    let values = |list: &[u32]| {
        let values = list.iter().map(|version| transactions.versions[*version as usize].value.to_string());
        excerpt(&format!("[{}]", values.collect::<Vec<_>>().join(", ")), EXCERPT_CHARS)
    };
    for (key, read) in lists(transactions) {
        let Some(longest) = longest.get(&key) else { continue };
        if longest.list.starts_with(read.list) {
            continue;
        }
        let (places, key) = ([read.reader.at, longest.reader.at], transactions.keys[key as usize]);
        findings.anomaly("incompatible order", &places, || {
            format!(
                "Key {key} was read as {} and as {}: of two states of a list that only grows at its end, one is the \
                 beginning of the other.",
                values(read.list),
                values(longest.list),
            )
        });
    }
}

/// An append that took effect although it was refused, and others that were built upon it.
fn look_for_dirty_updates(findings: &mut Findings<'_>, transactions: &Transactions<'_>, list: &[u32]) {
    for pair in list.windows(2) {
        let writers = [pair[0], pair[1]].map(|version| transactions.versions[version as usize].writer);
        let [Some(one), Some(other)] = writers.map(|writer| Some(&transactions.all[writer? as usize])) else {
            continue;
        };
        if one.fate == Fate::Refused && other.fate != Fate::Refused {
            let version = &transactions.versions[pair[0] as usize];
            let (value, key) = (version.value, transactions.keys[version.key as usize]);
            findings.anomaly("dirty update", &[one.at, other.at], || {
                format!("The append of {value} to key {key} was refused, and another one came after it.")
            });
        }
    }
}

/// A transaction that appended more than once, of which something else is there before what it appended first.
fn look_for_torn_appends(findings: &mut Findings<'_>, transactions: &Transactions<'_>, key: u32, list: &[u32]) {
    let mut before = HashSet::with_capacity(list.len());
    for version in list {
        before.insert(*version);
        let Some(writer) = transactions.live_writer(*version) else { continue };
        let writer = &transactions.all[writer as usize];
        let earlier = writer.writes(key).take_while(|write| write != version);
        if let Some(missing) = earlier.last().filter(|earlier| !before.contains(earlier)) {
            let [value, missing] = [*version, missing].map(|version| transactions.versions[version as usize].value);
            let key = transactions.keys[key as usize];
            findings.anomaly("torn append", &[writer.at], || {
                format!(
                    "Key {key} has {value}, and not before it {missing}, which the same transaction had appended first: \
                     all of a transaction takes effect, in its order, or nothing."
                )
            });
        }
    }
}

/// By key: the last appends of transactions that took effect, if they are in no read.
fn unseen(transactions: &Transactions<'_>, longest: &HashMap<u32, Longest<'_>>) -> HashMap<u32, Vec<u32>> {
    let mut is_seen = vec![false; transactions.versions.len()];
    for version in longest.values().flat_map(|longest| longest.list) {
        is_seen[*version as usize] = true;
    }
    let mut unseen: HashMap<u32, Vec<u32>> = HashMap::new();
    for (number, version) in (0..).zip(&transactions.versions) {
        if !is_seen[number as usize] && version.is_last && transactions.live_writer(number).is_some() {
            unseen.entry(version.key).or_default().push(number);
        }
    }
    unseen
}
