//! The order of writes to registers: a read tells only the last one, so it must be inferred.
//!
//! * What was there before the first write, nothing, comes before all.
//! * What a transaction read comes just before what it then wrote.
//! * Strict serializability keeps to the times, so does each key: what a transaction was done with, reading or writing it,
//!   comes before what another one saw or wrote that began later. (Elle has to be told: `linearizable-keys?`.) What is known
//!   from this alone is used for the anomalies whose names end in `-realtime`.
//!
//! Where none of this tells which of two versions came first, nobody knows; so a history may be accepted that no order
//! explains. What is found is never a mistake.

use std::collections::{HashMap, HashSet};
use std::mem;
use std::time::Duration;

use super::order::{Next, Order};
use super::reads::Read;
use super::transactions::{Step, Transactions};

/// A transaction, as one key sees it.
struct Visit {
    began: Duration,
    ended: Duration,
    /// The version it saw first, or wrote.
    first: u32,
    /// The version it left behind, its own or what was there.
    last: u32,
}

/// What can be inferred.
pub fn order(transactions: &Transactions<'_>, reads: &[Read<'_>]) -> Order {
    let mut order = Order::new(transactions);
    let mut has_earlier = vec![false; order.next.len()];
    let replacements = order.replacements(transactions, reads);
    for read in reads {
        if let Some(next) = read.wrote.filter(|version| transactions.live_writer(*version).is_some()) {
            order.add(order.seen(read), next, false);
            has_earlier[next as usize] = true;
        }
    }
    for visits in visits(transactions, reads, &order).into_values() {
        for (version, next) in successions(visits) {
            let is_initial = next as usize >= transactions.versions.len();
            if !is_initial && replacements.get(&version) != Some(&next) {
                order.add(version, next, true);
                has_earlier[next as usize] = true;
            }
        }
    }
    for (version, known) in (0..).zip(&transactions.versions) {
        if !has_earlier[version as usize] && known.is_last && transactions.live_writer(version).is_some() {
            order.add(order.initial(known.key), version, false);
        }
    }
    settle(&mut order, &replacements);
    order
}

/// By key: the transactions that touched it.
fn visits(transactions: &Transactions<'_>, reads: &[Read<'_>], order: &Order) -> HashMap<u32, Vec<Visit>> {
    let may_be = |version: u32| {
        let known = transactions.versions.get(version as usize);
        known.is_none_or(|known| known.is_last && transactions.live_writer(version).is_some())
    };
    let mut seen: HashMap<(u32, u32), u32> = HashMap::new();
    for read in reads {
        seen.insert((read.reader, read.key), order.seen(read));
    }
    let mut visits: HashMap<u32, Vec<Visit>> = HashMap::new();
    for (number, transaction) in (0..).zip(&transactions.all).filter(|(_, transaction)| transaction.counts()) {
        let steps = transaction.steps.iter();
        let mut keys: Vec<u32> = steps.map(|(Step::Read { key, .. } | Step::Write { key, .. })| *key).collect();
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            let written = transaction.writes(key).next_back();
            let seen = seen.get(&(number, key)).copied().filter(|version| may_be(*version));
            if let (Some(first), Some(last)) = (seen.or(written), written.or(seen)) {
                let (began, ended) = (transaction.began, transaction.ended);
                visits.entry(key).or_default().push(Visit { began, ended, first, last });
            }
        }
    }
    visits
}

/// Which versions of a key come before which others, as the visits' times tell: between visits of which one ended before
/// the other began, with none that lies wholly between them.
fn successions(mut visits: Vec<Visit>) -> Vec<(u32, u32)> {
    let mut by_end: Vec<(Duration, Duration, u32)> =
        visits.iter().map(|one| (one.ended, one.began, one.last)).collect();
    by_end.sort_unstable();
    visits.sort_unstable_by_key(|visit| visit.began);
    let mut by_end = by_end.into_iter().peekable();
    // Those that have ended, without those that ended before another of them began.
    let mut latest: Vec<(Duration, u32)> = Vec::new();
    let mut successions = Vec::new();
    for visit in visits {
        while let Some((ended, began, last)) = by_end.next_if(|(ended, ..)| *ended < visit.began) {
            latest.retain(|(before, _)| *before >= began);
            latest.push((ended, last));
        }
        let earlier = latest.iter().map(|(_, last)| (*last, visit.first));
        successions.extend(earlier.filter(|(earlier, later)| earlier != later));
    }
    successions.sort_unstable();
    successions.dedup();
    successions
}

/// Where a version was replaced by one who had read it, all others that come after it come after that one, too.
fn settle(order: &mut Order, replacements: &HashMap<u32, u32>) {
    let replacing: HashSet<u32> = replacements.values().copied().collect();
    for first in replacements.keys().filter(|version| !replacing.contains(version)) {
        let mut version = *first;
        while let Some(&next) = replacements.get(&version) {
            let own = |after: &Next| after.version == next && !after.by_time;
            let all = mem::take(&mut order.next[version as usize]);
            let (own, others): (Vec<Next>, Vec<Next>) = all.into_iter().partition(own);
            order.next[version as usize] = own;
            order.next[next as usize].extend(others.into_iter().filter(|after| after.version != next));
            version = next;
        }
    }
    for next in &mut order.next {
        next.sort_unstable();
        next.dedup_by_key(|next| next.version);
    }
}
