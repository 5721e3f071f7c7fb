//! What distinguishes two states: a number that is the same for states that behave the same.
//!
//! * Time is left out: [`Server::normal_form`](raft::consensus::Server::normal_form). What a server decides by time is a free
//!   choice of `actions` instead.
//! * Nodes are interchangeable, so a state is the same as that with its nodes renamed. Every part of a state keeps its
//!   number under each renaming, so that the number of a state costs a few additions.
//!
//! Numbers have 64 bits: among n states, the chance that two share one by accident is about n² / 2^65.

use std::hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher};

use dashmap::DashMap;
use raft::consensus::{HardState, NodeId};

/// The number of one part under every renaming of the nodes.
pub type Prints = Box<[u64]>;

/// Every renaming of so many nodes.
pub struct Renamings(Vec<Renaming>);

/// One renaming: by the node's place, its new id.
pub struct Renaming(Vec<NodeId>);

impl Renamings {
    /// All of them; the first renames nothing.
    pub fn of(nodes: usize) -> Self {
        let mut all = vec![Vec::new()];
        for _ in 0..nodes {
            let longer = all.iter().flat_map(|begun: &Vec<NodeId>| {
                let free = (1..=nodes as u64).map(NodeId).filter(|id| !begun.contains(id));
                free.map(|id| [begun.as_slice(), &[id]].concat())
            });
            all = longer.collect();
        }
        Renamings(all.into_iter().map(Renaming).collect())
    }

    /// The renaming that renames nothing.
    pub fn none(&self) -> &Renaming {
        &self.0[0]
    }

    /// Prints of something, from what it is under one renaming.
    pub fn prints(&self, print: impl Fn(&Renaming) -> u64) -> Prints {
        self.0.iter().map(print).collect()
    }

    /// The smallest of the numbers that `sum` makes of the parts' prints at one place.
    pub fn smallest(&self, sum: impl Fn(usize) -> u64) -> u64 {
        (0..self.0.len()).map(sum).min().unwrap_or_default()
    }
}

impl Renaming {
    /// The new name.
    pub fn name(&self, id: NodeId) -> NodeId {
        self.0[id.0 as usize - 1]
    }

    /// Term and vote under the new names.
    pub fn hard_state(&self, hard_state: HardState) -> HardState {
        HardState { vote: hard_state.vote.map(|vote| self.name(vote)), ..hard_state }
    }
}

/// A number for a value. Numbers of the parts of a whole may be added: order does not matter then.
pub fn print(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// A number for two numbers: the finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
pub fn mixed(a: u64, b: u64) -> u64 {
    let mut mixed = a.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ b;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// What is known by a number that is a hash already.
pub type ByPrint<V> = DashMap<u64, V, BuildHasherDefault<Identity>>;

/// The hash of a number is the number.
#[derive(Default)]
pub struct Identity(u64);

impl Hasher for Identity {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0 << 8 | u64::from(*byte));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
