//! Requests that change something, once or as often as they come.

use axum::http::StatusCode;
use axum::http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH};
use bytes::Bytes;
use twox_hash::XxHash3_64;

use super::Gateway;
use super::answer::Refusal;
use super::node::decoded;
use super::request::Call;
use crate::machine::command::{Answer, Change, Command, Guard, MAX_KEY_BYTES, Step};

/// The client's name for the request: sent again with it, the request takes effect once.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

impl Gateway {
    /// Makes a change if all guards hold: with an idempotency key, once.
    pub async fn change(&self, call: &Call, guards: Vec<Guard>, change: Change) -> Result<Answer, Refusal> {
        let command = match (key(call)?, guards.is_empty()) {
            (Some(key), _) => {
                Command::Once { key, request: fingerprint(call), guards, steps: vec![Step::Change(change)] }
            }
            (None, true) => change.into(),
            (None, false) => Command::Transaction { guards, steps: vec![Step::Change(change)] },
        };
        match self.write(call.client.connection, command.encode()).await? {
            Answer::Transaction(answers) => decoded(answers.first().map_or(&[], |answer| &answer[..])),
            Answer::GuardFailed { .. } => Err(Refusal::revision_mismatch()),
            Answer::KeyReused => {
                let message = "this Idempotency-Key came with another request before; nothing was done";
                Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "key_reused", message))
            }
            answer => Ok(answer),
        }
    }
}

/// The request's idempotency key, if it has one.
pub fn key(call: &Call) -> Result<Option<Bytes>, Refusal> {
    let mut keys = call.headers.get_all(IDEMPOTENCY_KEY).iter();
    let (Some(key), None) = (keys.next(), keys.next()) else {
        return match call.headers.contains_key(IDEMPOTENCY_KEY) {
            true => Err(Refusal::malformed("there is more than one Idempotency-Key")),
            false => Ok(None),
        };
    };
    match key.len() {
        1..=MAX_KEY_BYTES => Ok(Some(Bytes::copy_from_slice(key.as_bytes()))),
        length => {
            let message = format!("an Idempotency-Key has 1 to {MAX_KEY_BYTES} bytes, this one {length}");
            Err(Refusal::malformed(message))
        }
    }
}

/// A hash of all that makes the request. Part of the log, so it must stay the same.
fn fingerprint(call: &Call) -> u64 {
    let header = |name| call.headers.get(name).map_or(&b""[..], |value| value.as_bytes());
    let parts =
        [call.method.as_str().as_bytes(), call.target.as_bytes(), header(IF_MATCH), header(IF_NONE_MATCH), &call.body];
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(part);
    }
    XxHash3_64::oneshot(&bytes)
}
