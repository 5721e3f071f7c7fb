//! A whole cluster and its clients in one thread, on virtual time, from one seed.
//!
//! The third runtime: it runs the same driver, stages, log, recovery, snapshots, state machine and encodings as the others, and
//! replaces the clock, the network and the files. Nothing in it depends on anything but the [`Scenario`], so
//! that every run can be repeated, looked at, and cut down to the few faults that matter.
//!
//! Ambition and method are those of TigerBeetle's VOPR and of FoundationDB's simulation (Zhou et al., SIGMOD 2021).

mod clients;
pub mod dice;
mod disk;
mod faults;
mod host;
mod liveness;
mod log_lines;
mod network;
mod observed;
pub mod oracle;
pub mod report;
pub mod scenario;
mod schedule;
mod script;
mod shrink;
mod simulation;
mod snapshots;
mod transport;

pub use log_lines::listen;
pub use report::Report;
pub use scenario::{Profile, Scenario, Wish};
pub use script::{Script, ScriptError};
pub use shrink::{Shrunk, shrink};
pub use simulation::{Failed, simulate};
