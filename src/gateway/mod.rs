//! Client protocols: each turns its clients' requests into [`ClientRequest`](crate::runtime::ClientRequest)s.

pub mod maelstrom;
