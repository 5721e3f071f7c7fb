//! Who comes before whom, and why: Adya's dependencies, and time.
//!
//! Beside the transactions there are nodes that only keep it small. One stands for *after this version*: whoever wrote or read
//! the version leads there, and from there it goes to whoever wrote the next. One stands for *after this end*: it makes real
//! time a chain instead of a pair for every two transactions.

use std::time::Duration;

use super::order::Order;
use super::reads::Read;
use super::transactions::Transactions;

/// Why one comes before the other. Values are bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Why {
    /// The other wrote a later version.
    WriteWrite = 1,
    /// The other read its version.
    WriteRead = 2,
    /// It read a version, and the other wrote a later one.
    ReadWrite = 4,
    /// The process asked for the other when it was done with this one.
    Process = 8,
    /// It had ended when the other began.
    RealTime = 16,
    /// The rest of the way from a node between.
    Onward = 32,
    /// The same, known only because of time.
    OnwardByTime = 64,
}

impl Why {
    /// Whether it is no reason by itself, but the rest of the way.
    pub fn is_onward(self) -> bool {
        matches!(self, Why::Onward | Why::OnwardByTime)
    }
}

/// Leads to a node.
#[derive(Clone, Copy, Debug)]
pub struct Edge {
    pub to: u32,
    pub why: Why,
    /// The version that it is about, as [`Order`] counts them.
    pub version: u32,
}

/// Nodes are numbers. The first are the transactions.
pub struct Graph {
    /// By transaction: when it began and ended.
    pub times: Vec<(Duration, Duration)>,
    /// By node: where its edges begin, and at the end where the last one's end.
    starts: Vec<u32>,
    edges: Vec<Edge>,
}

impl Graph {
    /// All that is known. What does not count as committed has no edges.
    pub fn new(transactions: &Transactions<'_>, reads: &[Read<'_>], order: &Order) -> Self {
        let count = transactions.all.len() as u32;
        let mut edges = Edges(Vec::new());
        dependencies(&mut edges, transactions, reads, order);
        let ends = real_time(&mut edges, transactions, count + order.next.len() as u32);
        processes(&mut edges, transactions);
        let times = transactions.all.iter().map(|transaction| (transaction.began, transaction.ended)).collect();
        Graph::from_edges(times, count as usize + order.next.len() + ends, edges.0)
    }

    /// A graph of so many nodes, of which the first are transactions with these times.
    pub fn from_edges(times: Vec<(Duration, Duration)>, nodes: usize, mut edges: Vec<(u32, Edge)>) -> Self {
        edges.sort_by_key(|(from, _)| *from);
        let mut starts = vec![0; nodes + 1];
        for (from, _) in &edges {
            starts[*from as usize + 1] += 1;
        }
        for node in 0..nodes {
            starts[node + 1] += starts[node];
        }
        Graph { times, starts, edges: edges.into_iter().map(|(_, edge)| edge).collect() }
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// What leads away from a node.
    pub fn edges(&self, node: u32) -> &[Edge] {
        &self.edges[self.starts[node as usize] as usize..self.starts[node as usize + 1] as usize]
    }

    /// How many of them are transactions.
    pub fn transactions(&self) -> u32 {
        self.times.len() as u32
    }

    /// Whether a node is a transaction.
    pub fn is_transaction(&self, node: u32) -> bool {
        node < self.transactions()
    }
}

struct Edges(Vec<(u32, Edge)>);

impl Edges {
    fn add(&mut self, from: u32, to: u32, why: Why, version: u32) {
        self.0.push((from, Edge { to, why, version }));
    }
}

fn dependencies(edges: &mut Edges, transactions: &Transactions<'_>, reads: &[Read<'_>], order: &Order) {
    let after = |version: u32| transactions.all.len() as u32 + version;
    // A transaction that wrote the next version itself does not come before itself.
    let leads_to = |version: u32, to: u32| {
        let mut next = order.next[version as usize].iter();
        next.any(|next| transactions.live_writer(next.version) == Some(to))
    };
    for (version, next) in (0..).zip(&order.next).filter(|(_, next)| !next.is_empty()) {
        for next in next {
            let why = if next.by_time { Why::OnwardByTime } else { Why::Onward };
            if let Some(writer) = transactions.live_writer(next.version) {
                edges.add(after(version), writer, why, version);
            }
        }
        let is_version = (version as usize) < transactions.versions.len();
        if let Some(writer) = is_version.then(|| transactions.live_writer(version)).flatten()
            && !leads_to(version, writer)
        {
            edges.add(writer, after(version), Why::WriteWrite, version);
        }
    }
    for read in reads {
        // What never took effect has no place in the order: it is an anomaly by itself.
        let seen = read.seen.iter().rev().find(|version| transactions.live_writer(**version).is_some());
        let version = match seen {
            Some(version) => *version,
            None if read.seen.is_empty() => order.initial(read.key),
            None => continue,
        };
        if let Some(writer) = seen.and_then(|version| transactions.live_writer(*version))
            && writer != read.reader
        {
            edges.add(writer, read.reader, Why::WriteRead, version);
        }
        if !order.next[version as usize].is_empty() && !leads_to(version, read.reader) {
            edges.add(read.reader, after(version), Why::ReadWrite, version);
        }
    }
}

/// Adds a node for every end, from this one on. Returns how many.
fn real_time(edges: &mut Edges, transactions: &Transactions<'_>, first: u32) -> usize {
    let all = || (0..).zip(&transactions.all).filter(|(_, transaction)| transaction.counts());
    let ended = all().filter(|(_, transaction)| transaction.ended < Duration::MAX);
    let mut ends: Vec<(Duration, u32)> = ended.map(|(number, transaction)| (transaction.ended, number)).collect();
    ends.sort_unstable();
    for (node, (_, number)) in (first..).zip(&ends) {
        edges.add(*number, node, Why::RealTime, 0);
        if node > first {
            edges.add(node - 1, node, Why::Onward, 0);
        }
    }
    for (number, transaction) in all() {
        let before = ends.partition_point(|(ended, _)| *ended < transaction.began) as u32;
        if before > 0 {
            edges.add(first + before - 1, number, Why::Onward, 0);
        }
    }
    ends.len()
}

fn processes(edges: &mut Edges, transactions: &Transactions<'_>) {
    let mut all: Vec<_> = (0..).zip(&transactions.all).filter(|(_, transaction)| transaction.counts()).collect();
    all.sort_by_key(|(_, transaction)| (transaction.process, transaction.began));
    for pair in all.windows(2) {
        let [(one, before), (other, after)] = pair else { continue };
        if before.process == after.process && before.ended < after.began {
            edges.add(*one, *other, Why::Process, 0);
        }
    }
}
