//! Bytes: frames between nodes, and the binary encoding inside them.

pub mod binary;
pub mod json;
