//! The client and the shell against nodes that only pretend.

mod bench;
mod binary;
mod client;
mod commands;
mod etcd;
mod fake_node;
mod queue;
