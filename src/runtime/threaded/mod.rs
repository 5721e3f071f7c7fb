//! The default runtime: one thread for each job, and queues between them. A small pool serves clients' sockets. Those of
//! peers the event handler serves itself, since every hand-over to another thread costs more than what they say.

pub mod clock;
mod controller;
pub mod handler;
mod worker;

pub use controller::{Controller, ControllerOptions, OwnSockets};
