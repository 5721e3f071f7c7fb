//! What is between the nodes: how long messages take, and which are lost. And how many there were.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::options::{Latency, Spread};
use crate::runtime::simulated::dice::{Dice, MILLION};

/// The network of one run. Messages of clients take no time and are never lost.
pub struct Network {
    latency: Latency,
    /// In a million.
    loss: u64,
    senders: Vec<Sender>,
    /// Messages lost by chance.
    lost: AtomicU64,
    /// Messages lost because their way was cut.
    cut: AtomicU64,
    /// Messages lost because too many were waiting for a node that did not read.
    unread: AtomicU64,
}

/// What belongs to the node that sends, so that nodes do not get into each other's way.
struct Sender {
    dice: Mutex<Dice>,
    /// A bit for each node that is not reached.
    blocked: AtomicU64,
    /// Messages to other nodes.
    sent: AtomicU64,
}

/// What was carried, and what was not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages between nodes, with those that were lost.
    pub between_nodes: u64,
    /// Messages between nodes, lost by chance.
    pub lost: u64,
    /// Messages between nodes, lost because their way was cut.
    pub cut: u64,
    /// Messages of nodes and clients, lost because too many were waiting for a node that did not read.
    pub unread: u64,
}

impl Network {
    /// A network of so many nodes, without cuts, with this share of messages lost, from 0 to 1.
    pub fn new(nodes: usize, latency: Latency, loss: f64, seed: u64) -> Self {
        let sender = |node| Sender {
            dice: Mutex::new(Dice::new(seed, &format!("messages of n{node}"))),
            blocked: AtomicU64::new(0),
            sent: AtomicU64::new(0),
        };
        Network {
            latency,
            loss: (loss.clamp(0.0, 1.0) * MILLION as f64).round() as u64,
            senders: (0..nodes).map(sender).collect(),
            lost: AtomicU64::new(0),
            cut: AtomicU64::new(0),
            unread: AtomicU64::new(0),
        }
    }

    /// A message sets out from one node to another: how long it takes. None: it is lost.
    pub fn send(&self, src: usize, dest: usize) -> Option<Duration> {
        let sender = self.senders.get(src)?;
        sender.sent.fetch_add(1, Ordering::Relaxed);
        if !self.passes(src, dest) {
            return None;
        }
        let mut dice = sender.dice.lock().unwrap_or_else(PoisonError::into_inner);
        if dice.in_a_million(self.loss) {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.latency.draw(&mut dice))
    }

    /// Whether a message passes, at its beginning or its end. If not, it counts as lost.
    pub fn passes(&self, src: usize, dest: usize) -> bool {
        let blocked = self.senders.get(src).map_or(0, |sender| sender.blocked.load(Ordering::Relaxed));
        let passes = blocked & (1 << dest) == 0;
        if !passes {
            self.cut.fetch_add(1, Ordering::Relaxed);
        }
        passes
    }

    /// So many messages were lost because too many were waiting for a node that did not read.
    pub fn unread(&self, messages: u64) {
        self.unread.fetch_add(messages, Ordering::Relaxed);
    }

    /// Messages from the first to the second of each pair are lost from now on, and no others.
    pub fn cut(&self, ways: &[(usize, usize)]) {
        for (node, sender) in self.senders.iter().enumerate() {
            let blocked = ways.iter().filter(|(src, _)| *src == node).fold(0, |bits, (_, dest)| bits | 1 << dest);
            sender.blocked.store(blocked, Ordering::Relaxed);
        }
    }

    /// Messages between nodes so far.
    pub fn between_nodes(&self) -> u64 {
        self.senders.iter().map(|sender| sender.sent.load(Ordering::Relaxed)).sum()
    }

    /// Messages lost so far because their way was cut.
    pub fn cut_so_far(&self) -> u64 {
        self.cut.load(Ordering::Relaxed)
    }

    /// What was carried so far.
    pub fn traffic(&self) -> Traffic {
        Traffic {
            between_nodes: self.between_nodes(),
            lost: self.lost.load(Ordering::Relaxed),
            cut: self.cut_so_far(),
            unread: self.unread.load(Ordering::Relaxed),
        }
    }
}

impl Latency {
    /// How long one message takes.
    fn draw(self, dice: &mut Dice) -> Duration {
        if self.mean.is_zero() {
            return Duration::ZERO;
        }
        match self.spread {
            Spread::Constant => self.mean,
            Spread::Uniform => Duration::from_nanos(dice.below(2 * self.mean.as_nanos() as u64 + 1)),
            Spread::Exponential => dice.around(self.mean),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Latency = Latency { mean: Duration::ZERO, spread: Spread::Constant };

    #[test]
    fn a_share_of_messages_is_lost() {
        let network = Network::new(2, NONE, 0.2, 7);
        let arrived = (0..10_000).filter(|_| network.send(0, 1).is_some()).count();
        assert!((7_800..8_200).contains(&arrived), "{arrived} of 10,000 arrived");
        let traffic = network.traffic();
        assert_eq!((traffic.between_nodes, traffic.lost, traffic.cut), (10_000, 10_000 - arrived as u64, 0));
    }

    #[test]
    fn a_cut_goes_one_way_and_is_healed() {
        let network = Network::new(3, NONE, 0.0, 7);
        network.cut(&[(0, 1), (0, 2)]);
        let reached = |src, dest| network.send(src, dest).is_some();
        assert_eq!([reached(0, 1), reached(0, 2), reached(1, 0), reached(1, 2)], [false, false, true, true]);
        assert_eq!(network.cut_so_far(), 2);
        network.cut(&[]);
        assert!(reached(0, 1) && reached(0, 2));
    }

    #[test]
    fn latencies_are_of_the_distribution_that_was_asked_for() {
        let mean = Duration::from_millis(10);
        for spread in [Spread::Constant, Spread::Uniform, Spread::Exponential] {
            let network = Network::new(2, Latency { mean, spread }, 0.0, 7);
            let mut drawn: Vec<_> = (0..10_000).filter_map(|_| network.send(0, 1)).collect();
            drawn.sort();
            let average = drawn.iter().sum::<Duration>() / 10_000;
            assert!(average.abs_diff(mean) < Duration::from_micros(300), "{spread:?}: {average:?}");
            let (least, median, most) = (drawn[0], drawn[5_000], drawn[9_999]);
            match spread {
                Spread::Constant => assert!(least == mean && most == mean),
                Spread::Uniform => assert!(least < mean / 100 && most <= 2 * mean && median.abs_diff(mean) < mean / 20),
                Spread::Exponential => assert!(median < mean * 3 / 4 && most > 5 * mean && most <= 10 * mean),
            }
        }
    }
}
