//! Keys and values.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::http::header::{ETAG, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use axum::response::Response;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Gateway;
use super::answer::{Answered, Refusal, json, success};
use super::request::Call;
use super::text::Text;
use crate::machine::command::{Answer, Change, Condition, Guard, MAX_ITEMS, Query, Value};

/// Keys of a list, unless the client says how many.
const LISTED: u64 = 1000;

/// A key and its value.
#[derive(Serialize)]
struct Item {
    key: Text,
    value: Text,
    revision: u64,
}

impl Item {
    fn new(key: Bytes, Value { bytes, revision }: Value) -> Self {
        Item { key: Text(key), value: Text(bytes), revision }
    }
}

/// `GET /kv/{key}`.
#[derive(Serialize)]
struct Found {
    success: bool,
    #[serde(flatten)]
    item: Item,
}

pub async fn get(gateway: Arc<Gateway>, call: Call) -> Answered {
    match gateway.read(call.client.connection, Query::Get { key: call.name() }).await? {
        Answer::Value(Some(value)) => {
            let revision = value.revision;
            let found = Found { success: true, item: Item::new(call.name(), value) };
            Ok(tagged(json(&gateway, StatusCode::OK, &found), revision))
        }
        Answer::Value(None) => Err(no_such_key()),
        _ => Err(Refusal::another()),
    }
}

/// `GET /kv`.
#[derive(Serialize)]
struct Page {
    success: bool,
    items: Vec<Item>,
    more: bool,
}

pub async fn list(gateway: Arc<Gateway>, call: Call) -> Answered {
    let query = call.query(&["prefix", "after", "limit"])?;
    let limit = query.number("limit", LISTED, 1..=MAX_ITEMS)?;
    let (prefix, after) = (query.get("prefix").unwrap_or_default(), query.get("after"));
    match gateway.read(call.client.connection, Query::List { prefix, after, limit }).await? {
        Answer::Items { items, more } => {
            let items = items.into_iter().map(|(key, value)| Item::new(key, value)).collect();
            Ok(json(&gateway, StatusCode::OK, &Page { success: true, items, more }))
        }
        _ => Err(Refusal::another()),
    }
}

/// The body of `PUT /kv/{key}`.
#[derive(Deserialize)]
struct NewValue {
    value: Text,
}

/// What became of it.
#[derive(Serialize)]
struct Written {
    success: bool,
    revision: u64,
}

pub async fn put(gateway: Arc<Gateway>, call: Call) -> Answered {
    let NewValue { value: Text(value) } = call.json()?;
    let expected = Expected::of(&call)?;
    let condition = if expected == Expected::Existing { Condition::Present } else { Condition::Always };
    let change = Change::Set { key: call.name(), value, condition, want_old: false };
    match gateway.change(&call, expected.guards(&call), change).await? {
        Answer::Set { revision: Some(revision), .. } => {
            let written = Written { success: true, revision };
            Ok(tagged(json(&gateway, StatusCode::OK, &written), revision))
        }
        Answer::Set { revision: None, .. } => Err(Refusal::revision_mismatch()),
        _ => Err(Refusal::another()),
    }
}

pub async fn delete(gateway: Arc<Gateway>, call: Call) -> Answered {
    let expected = Expected::of(&call)?;
    if expected == Expected::Missing {
        return Err(Refusal::malformed("If-None-Match does not go with DELETE"));
    }
    let change = Change::Delete { keys: vec![call.name()] };
    match gateway.change(&call, expected.guards(&call), change).await? {
        Answer::Count(0) if expected == Expected::Existing => Err(Refusal::revision_mismatch()),
        Answer::Count(0) => Err(no_such_key()),
        Answer::Count(_) => Ok(success(&gateway, StatusCode::OK)),
        _ => Err(Refusal::another()),
    }
}

/// What the client expects of a key that it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Anything,
    /// `If-Match: *`
    Existing,
    /// `If-Match: "7"`
    Revision(u64),
    /// `If-None-Match: *`
    Missing,
}

impl Expected {
    fn of(call: &Call) -> Result<Self, Refusal> {
        let header = |name: HeaderName| call.headers.get(name).map(|value| value.to_str().unwrap_or_default().trim());
        match (header(IF_MATCH), header(IF_NONE_MATCH)) {
            (None, None) => Ok(Expected::Anything),
            (None, Some("*")) => Ok(Expected::Missing),
            (Some("*"), None) => Ok(Expected::Existing),
            (Some(tag), None) => {
                let revision = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).unwrap_or(tag);
                revision.parse().map(Expected::Revision).map_err(|_| {
                    Refusal::malformed(format!("If-Match is {tag}, but should be * or one revision, like \"7\""))
                })
            }
            (None, Some(tag)) => Err(Refusal::malformed(format!("If-None-Match is {tag}, but can only be *"))),
            (Some(_), Some(_)) => Err(Refusal::malformed("there are both If-Match and If-None-Match")),
        }
    }

    fn guards(self, call: &Call) -> Vec<Guard> {
        match self {
            Expected::Anything | Expected::Existing => Vec::new(),
            Expected::Revision(revision) => vec![Guard { key: call.name(), revision: Some(revision) }],
            Expected::Missing => vec![Guard { key: call.name(), revision: None }],
        }
    }
}

fn tagged(mut response: Response, revision: u64) -> Response {
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{revision}\"")) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

fn no_such_key() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "no_such_key", "there is no such key")
}
