//! The default runtime: one thread for each job, channels between them, and sockets served by a small pool.

pub mod clock;
mod connection;
mod controller;
pub mod daemon;
mod guard;
pub mod handler;
mod listener;
mod log_limit;
pub mod node;
mod socket;
mod worker;

pub use connection::Connection;
pub use controller::{Controller, ControllerHandle, ControllerOptions};
pub(crate) use guard::spawn_guarded;
pub use listener::{ListenOptions, Seat, Seats, bind};
pub use log_limit::{LogLimit, LogRepeats};
