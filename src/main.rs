//! The `raft` binary.
fn main() {}
