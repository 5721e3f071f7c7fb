//! `txn-list-append` and `txn-rw-register`: transactions are strict serializable.
//!
//! The method is that of Elle (Kingsbury and Alvaro, VLDB 2020), in the terms of Adya (1999). [`transactions`] are read from
//! the history; each read is looked at alone ([`reads`]); then [`lists`] or [`registers`] say in which order the versions of
//! each key were written, as far as that can be known. A [`graph`] says who comes before whom, and why; in an order of one
//! transaction at a time nobody comes before itself, so every cycle ([`cycles`]) is an anomaly.
//!
//! Every value is written to a key only once: that is how the writer of what was read is known. A transaction whose outcome is
//! unknown counts as committed once somebody has read something of it, and does not count before.

mod cycles;
mod graph;
mod lists;
mod order;
mod reads;
mod registers;
mod transactions;
mod words;

use super::findings::Findings;
use graph::Graph;
use transactions::{Fate, Transactions};

/// What keys stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Of `txn-list-append`: a read has all that was appended, so it tells the order of the writes.
    Lists,
    /// Of `txn-rw-register`: a read has what was written last.
    Registers,
}

/// Checks that all transactions have an order that explains them and keeps to their times.
pub fn check(findings: &mut Findings<'_>, kind: Kind) {
    let transactions = Transactions::read(findings, kind);
    let mut reads = reads::check(findings, &transactions);
    reads::check_updates(findings, &transactions, &reads);
    let order = match kind {
        Kind::Lists => lists::order(findings, &transactions, &mut reads),
        Kind::Registers => registers::order(&transactions, &reads),
    };
    let graph = Graph::new(&transactions, &reads, &order);
    for cycle in cycles::find(&graph) {
        words::tell(findings, &transactions, &cycle);
    }
    let count = |fate| transactions.all.iter().filter(|transaction| transaction.fate == fate).count();
    findings.fact("transactions", transactions.all.len());
    findings.fact("committed", count(Fate::Committed));
    findings.fact("refused", count(Fate::Refused));
    findings.fact("with unknown outcomes", count(Fate::Seen) + count(Fate::Unknown));
    findings.fact("of these, seen by others", count(Fate::Seen));
    findings.fact("keys", transactions.keys.len());
}
