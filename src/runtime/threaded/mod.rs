//! The runtime of threads: sockets served by a small pool of them.

mod connection;
mod controller;
mod listener;
mod log_limit;
mod socket;
mod worker;

pub use connection::Connection;
pub use controller::{Controller, ControllerHandle, ControllerOptions};
pub use listener::{ListenOptions, bind};
pub use log_limit::{LogLimit, LogRepeats};
