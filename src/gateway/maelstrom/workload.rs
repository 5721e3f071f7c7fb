//! What Maelstrom's workloads are called.

use std::fmt;
use std::str::FromStr;

/// A workload. Any node serves all of them; this decides what requests mean that do not say it themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Workload {
    /// Registers: `read`, `write` and `cas` of keys.
    #[default]
    LinKv,
    /// Transactions over lists: a transaction that only reads, reads lists.
    TxnListAppend,
    /// Transactions over registers: a transaction that only reads, reads registers.
    TxnRwRegister,
    /// Logs.
    Kafka,
    /// A `read` without a key gets all messages.
    Broadcast,
    /// A `read` without a key gets all elements.
    GSet,
    /// A `read` without a key gets the sum, to which nothing negative is added.
    GCounter,
    /// A `read` without a key gets the sum.
    PnCounter,
    /// A node says what it is told.
    Echo,
    /// Nodes make names that nobody has made before.
    UniqueIds,
}

impl Workload {
    /// All of them, as Maelstrom calls them.
    pub const NAMES: [(&str, Workload); 10] = [
        ("lin-kv", Workload::LinKv),
        ("txn-list-append", Workload::TxnListAppend),
        ("txn-rw-register", Workload::TxnRwRegister),
        ("kafka", Workload::Kafka),
        ("broadcast", Workload::Broadcast),
        ("g-set", Workload::GSet),
        ("g-counter", Workload::GCounter),
        ("pn-counter", Workload::PnCounter),
        ("echo", Workload::Echo),
        ("unique-ids", Workload::UniqueIds),
    ];
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Workload::NAMES.iter().find(|(_, workload)| workload == self);
        f.write_str(name.map_or("", |(name, _)| name))
    }
}

impl FromStr for Workload {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Workload::NAMES.iter().find(|(name, _)| *name == text);
        found.map(|(_, workload)| *workload).ok_or_else(|| {
            let names: Vec<_> = Workload::NAMES.iter().map(|(name, _)| *name).collect();
            format!("there is no such workload; existing: {}", names.join(", "))
        })
    }
}
