//! The default runtime: one thread for each job, channels between them, and sockets served by a small pool.

pub mod clock;
mod controller;
pub mod handler;
mod worker;

pub use controller::{Controller, ControllerOptions};
