//! What is counted of requests and connections, and how many bytes of them are held in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::runtime::metrics::Counter;

/// Most bytes that may be held of requests, and of answers, over all connections: beyond that, requests are refused.
const MAX_HELD_BYTES: usize = 512 << 20;

/// What was counted so far.
#[derive(Default)]
pub struct Traffic {
    pub received_bytes: Counter,
    pub sent_bytes: Counter,
    pub requests: Counter,
    /// Connections refused because there were too many.
    pub turned_away: Counter,
    /// Requests refused because of their own size.
    pub too_large: Counter,
    /// Requests refused because of the bytes held.
    pub too_many_bytes: Counter,
}

/// How many bytes are held. Clones count together.
#[derive(Clone, Default)]
pub struct Held(Arc<AtomicUsize>);

/// A share of the bytes held, until it is dropped.
#[derive(Default)]
pub struct Share {
    held: Held,
    bytes: usize,
}

impl Held {
    pub fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    pub fn is_too_much(&self) -> bool {
        self.get() >= MAX_HELD_BYTES
    }

    /// So many more.
    pub fn share(&self, bytes: usize) -> Share {
        let mut share = Share { held: self.clone(), bytes: 0 };
        share.grow(bytes);
        share
    }
}

impl Share {
    pub fn grow(&mut self, bytes: usize) {
        self.held.0.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.held.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
