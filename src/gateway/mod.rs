//! Doors for clients: each turns its protocol into [`ClientRequest`](crate::runtime::ClientRequest)s and the outcomes into
//! its answers.

pub mod maelstrom;
pub mod resp;
