//! A load generator for whatever speaks the Redis protocol, and for etcd: how many requests a second, and how long each takes.
//!
//! It is a closed loop: each client sends its next request when its last is answered. Clients share connections, over
//! which requests are pipelined; one thread carries all of them, writes what the clients of a connection have to send
//! in one go, and reads what has arrived in one go, so that the load costs the machine far less than what it measures.
//!
//! What is asked, in which order, and what counts is the same for both protocols. They differ in `requests` and in what carries
//! the bytes: `connection` and `reply` on the one side, `etcd` and `grpc` on the other.
//!
//! A run fills the keys if anybody will get them, warms up, and then measures. What counts is what was *sent* in the
//! time measured, however late its answer: a server that stalls at the end is not flattered.

mod connection;
mod course;
mod etcd;
mod grpc;
mod load;
mod options;
mod plot;
mod reply;
mod report;
mod requests;
mod summary;

pub use load::{Progress, run};
pub use options::{Mix, Options, Protocol};
pub use plot::plot;
pub use report::{json, text};
pub use summary::{Answers, Slot, Summary};
