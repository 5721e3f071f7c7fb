//! Whether what clients saw may be: one check for each workload.
//!
//! Checks are pure: the same history gets the same verdict. Nothing that a node answers is believed before it is looked at; an
//! answer that says something else than the protocol lets it say is an anomaly of its own, `malformed answer`, and is taken
//! for none at all from there on.
//!
//! `docs/MAELSTROM.md` lists the anomalies of every workload, and what is assumed in naming them.

mod alone;
mod commits;
mod counter;
mod findings;
mod kafka;
mod lin_kv;
mod set;
mod txn;

use super::history::{Operation, Outcome};
use super::verdict::Verdict;
use crate::gateway::maelstrom::Workload;
use findings::Findings;

/// Checks a history of this workload. The order of its operations means nothing.
pub fn check(workload: Workload, history: &[Operation]) -> Verdict {
    let mut findings = Findings::new(history);
    match workload {
        Workload::LinKv => lin_kv::check(&mut findings),
        Workload::TxnListAppend => txn::check(&mut findings, txn::Kind::Lists),
        Workload::TxnRwRegister => txn::check(&mut findings, txn::Kind::Registers),
        Workload::Kafka => kafka::check(&mut findings),
        Workload::Broadcast => set::check(&mut findings, &set::BROADCAST),
        Workload::GSet => set::check(&mut findings, &set::G_SET),
        Workload::GCounter | Workload::PnCounter => counter::check(&mut findings),
        Workload::Echo => alone::echo(&mut findings),
        Workload::UniqueIds => alone::unique_ids(&mut findings),
    }
    findings.verdict()
}

/// The type of its request.
fn kind(operation: &Operation) -> &str {
    operation.request["type"].as_str().unwrap_or_default()
}

/// Whether it certainly never took effect.
fn is_refused(operation: &Operation) -> bool {
    matches!(operation.outcome, Outcome::Refused { .. })
}

#[cfg(test)]
mod tests;
