//! Bytes: frames between nodes, and the binary encoding inside them.

pub mod binary;
pub mod frame;
pub mod handshake;
pub mod json;
pub mod peer;
pub mod snapshot;
