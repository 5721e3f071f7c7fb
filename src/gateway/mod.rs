//! Client protocols: what turns a client's bytes into requests of the node, and outcomes into the client's bytes.

pub mod resp;
