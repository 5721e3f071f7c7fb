//! What a node answers by itself, whether it reaches the others or not.

use std::cell::Cell;

use super::message::{Body, ErrorCode, Request};

/// A node on its own.
pub struct Alone {
    /// The node's name and 128 random bits: no other node, and no other life of this one, has the same.
    name: String,
    /// How many names it has made.
    made: Cell<u64>,
}

impl Alone {
    /// The node of this name, in a new life. Fails, saying why, if the system has no random bits.
    pub fn new(node: &str) -> Result<Self, String> {
        let random = || getrandom::u64().map_err(|error| format!("the system has no random bits: {error}"));
        let name = format!("{node}-{:016x}{:016x}", random()?, random()?);
        Ok(Alone { name, made: Cell::new(0) })
    }

    /// The answer, if the request is one for the node alone.
    pub fn answer(&self, request: &Request<'_>) -> Option<Body> {
        match request.kind.as_deref() {
            Ok("echo") => Some(match request.body.required("echo") {
                Ok(echo) => Body::with("echo", "echo", echo.to_owned()),
                Err(why) => Body::error(ErrorCode::MalformedRequest, why),
            }),
            Ok("generate") => {
                let number = self.made.get() + 1;
                self.made.set(number);
                Some(Body::json("generate", "id", format!("\"{}-{number}\"", self.name)))
            }
            // Whoever is whose neighbour: messages reach all nodes through the log.
            Ok("topology") => Some(Body::ok("topology")),
            _ => None,
        }
    }
}
