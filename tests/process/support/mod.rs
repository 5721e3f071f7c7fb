//! What the tests share: clusters of processes and what becomes of them, a router between nodes on standard input and
//! output, random numbers.

pub mod cluster;
pub mod disk;
pub mod historian;
pub mod http;
pub mod links;
pub mod load;
pub mod logs;
pub mod maelstrom;
pub mod random;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Held by each test that starts processes.
pub fn one_at_a_time() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}
