//! The default runtime: one thread for each job, and channels between them.

pub mod clock;
pub mod handler;
pub mod node;
