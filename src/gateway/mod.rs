//! Doors for clients: each turns its protocol into [`ClientRequest`](crate::runtime::ClientRequest)s and the outcomes into
//! its answers.

#[cfg(feature = "http")]
pub mod http;
pub mod maelstrom;
pub mod resp;
