//! Maelstrom's workloads against any program that speaks its protocol: what clients saw, and whether that may be.
//!
//! A [`history`] is what clients asked and were told; [`verdict`] is what is said about it.

pub mod history;
pub mod verdict;
