//! What a command came to: as text for people and scripts, and as JSON.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::{Serialize, Serializer};

use super::words;
use crate::client::{Error, Leader, NodeAddress};
use crate::machine::command::Value;
use crate::machine::queue::command::{Delivery, TopicInfo};
use crate::runtime::{LogLine, NodeStatus};

/// One node, and how it is or why nobody knows.
type NodeAnswer = (NodeAddress, Result<NodeStatus, Error>);

/// The outcome of a command that succeeded.
#[derive(Clone, Debug)]
pub enum Output {
    /// Done, and nothing to say about it.
    Done,
    /// The value of a key.
    Value {
        /// The key.
        key: Vec<u8>,
        /// Its value, if there is such a key.
        value: Option<Value>,
    },
    /// How many keys were deleted.
    Deleted(u64),
    /// Keys and values.
    Items(Vec<(Bytes, Value)>),
    /// Names of topics.
    Topics(Vec<Bytes>),
    /// How a topic is.
    Topic {
        /// Its name.
        name: Vec<u8>,
        /// How it is.
        info: TopicInfo,
    },
    /// How many messages were removed.
    Purged(u64),
    /// The id of a new message.
    Put(u64),
    /// The oldest message, if there was one.
    Message(Option<Bytes>),
    /// The oldest messages.
    Messages(Vec<Bytes>),
    /// Leased messages.
    Deliveries(Vec<Delivery>),
    /// How many messages there are.
    Length(u64),
    /// Who leads.
    Leader(Leader),
    /// All nodes.
    Status(Vec<NodeAnswer>),
    /// Entries of a node's log.
    Log {
        /// The node.
        node: NodeAddress,
        /// The entries.
        entries: Vec<LogLine>,
    },
    /// A node's state.
    State {
        /// The node.
        node: NodeAddress,
        /// Its state.
        state: serde_json::Value,
    },
    /// An explanation.
    Help(String),
}

impl Output {
    /// What is printed, line end and all. To a terminal nothing is sent that it could take for a command.
    pub fn text(&self, terminal: bool) -> Vec<u8> {
        let mut text = match self {
            Output::Done => b"OK".to_vec(),
            Output::Value { value: None, .. } | Output::Message(None) => b"(nil)".to_vec(),
            Output::Value { value: Some(Value { bytes, .. }), .. } | Output::Message(Some(bytes)) => {
                if terminal {
                    printable(bytes).into_bytes()
                } else {
                    bytes.to_vec()
                }
            }
            Output::Deleted(count) | Output::Purged(count) | Output::Put(count) | Output::Length(count) => {
                count.to_string().into_bytes()
            }
            Output::Topics(words) | Output::Messages(words) => {
                return words.iter().flat_map(|word| (words::quote(word) + "\n").into_bytes()).collect();
            }
            Output::Topic { info, .. } => topic_table(info).into_bytes(),
            Output::Deliveries(deliveries) => delivery_table(deliveries).into_bytes(),
            Output::Items(items) => {
                return items.iter().flat_map(|(key, value)| item(key, value).into_bytes()).collect();
            }
            Output::Leader(leader) => leader.id.to_string().into_bytes(),
            Output::Status(nodes) => status_table(nodes).into_bytes(),
            Output::Log { entries, .. } => log_table(entries).into_bytes(),
            Output::State { state, .. } => format!("{state:#}").into_bytes(),
            Output::Help(text) => text.clone().into_bytes(),
        };
        text.push(b'\n');
        text
    }

    /// One line of JSON, without its end.
    pub fn json(&self) -> String {
        let mut object = Object(vec![("ok", true.into())]);
        match self {
            Output::Done => {}
            Output::Value { key, value: Some(value) } => object.0.extend(item_json(key, value).0),
            Output::Value { key, value: None } => {
                object.0.extend([
                    text_or_base64("key", "key_base64", key),
                    ("value", ().into()),
                    ("revision", ().into()),
                ]);
            }
            Output::Deleted(count) => object.0.push(("deleted", (*count).into())),
            Output::Items(items) => {
                let items = items.iter().map(|(key, value)| Json::Object(item_json(key, value))).collect();
                object.0.push(("items", Json::Array(items)));
            }
            Output::Topics(names) => {
                let topic = |name: &Bytes| Json::Object(Object(vec![text_or_base64("topic", "topic_base64", name)]));
                object.0.push(("topics", Json::Array(names.iter().map(topic).collect())));
            }
            Output::Topic { name, info } => object.0.extend(topic_json(name, info).0),
            Output::Purged(count) => object.0.push(("purged", (*count).into())),
            Output::Put(id) => object.0.push(("id", (*id).into())),
            Output::Message(message) => object.0.push(("messages", messages_json(message))),
            Output::Messages(messages) => object.0.push(("messages", messages_json(messages))),
            Output::Deliveries(deliveries) => {
                let deliveries = deliveries.iter().map(delivery_json).collect();
                object.0.push(("messages", Json::Array(deliveries)));
            }
            Output::Length(count) => object.0.push(("length", (*count).into())),
            Output::Leader(leader) => object.0.extend([
                ("id", leader.id.0.into()),
                ("label", leader.label.clone().into()),
                ("term", leader.term.into()),
            ]),
            Output::Status(nodes) => object.0.push(("nodes", Json::Array(status_json(nodes)))),
            Output::Log { node, entries } => {
                object.0.extend(of_node(node));
                object.0.push(("entries", Json::Array(entries.iter().map(entry_json).collect())));
            }
            Output::State { node, state } => {
                object.0.extend(of_node(node));
                object.0.push(("state", Json::Plain(state.clone())));
            }
            Output::Help(text) => object.0.push(("help", text.clone().into())),
        }
        object.line()
    }
}

/// An error as one line of JSON, without its end.
pub fn error_json(error: &Error) -> String {
    Object(vec![
        ("ok", false.into()),
        ("error", error.word().to_owned().into()),
        ("definite", error.definite().into()),
        ("message", error.to_string().into()),
    ])
    .line()
}

/// A message that was looked at, in a line without its end.
pub(super) fn seen_text(id: u64, message: &[u8]) -> String {
    format!("{id}  {}", words::quote(message))
}

/// The same as JSON.
pub(super) fn seen_json(id: u64, message: &[u8]) -> String {
    Object(vec![("ok", true.into()), ("id", id.into()), text_or_base64("message", "message_base64", message)]).line()
}

/// Text as it is; anything that is not text, or that a terminal would obey, as a quoted word.
fn printable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(|char: char| char.is_control() && !matches!(char, '\n' | '\t')) => text.to_owned(),
        _ => words::quote(bytes),
    }
}

/// Text that cannot leave its line.
fn one_line(text: &str) -> String {
    match text.contains(char::is_control) {
        true => words::quote(text.as_bytes()),
        false => text.to_owned(),
    }
}

fn item(key: &[u8], value: &Value) -> String {
    format!("{} = {}\n", words::quote(key), words::quote(&value.bytes))
}

fn status_table(nodes: &[NodeAnswer]) -> String {
    let head = ["ID", "LABEL", "ROLE", "TERM", "LEADER", "LAST", "COMMIT", "APPLIED", "LAG"];
    let rows = nodes.iter().map(|(node, status)| match status {
        Ok(status) => [
            node.id.to_string(),
            node.label.clone(),
            role(status),
            status.term.to_string(),
            status.leader.map_or_else(|| "-".into(), |id| id.to_string()),
            status.last.to_string(),
            status.commit.to_string(),
            status.applied.to_string(),
            lag(nodes, status).to_string(),
        ],
        Err(_) => {
            let [id, label] = [node.id.to_string(), node.label.clone()];
            let [.., a, b, c, d, e, f] = head.map(|_| "-".to_owned());
            [id, label, "unreachable".into(), a, b, c, d, e, f]
        }
    });
    table(head, rows)
}

/// A node's role, and whether it counts.
fn role(status: &NodeStatus) -> String {
    if status.abstains { format!("{}, abstains", status.role) } else { status.role.to_string() }
}

/// Committed entries, as far as reachable nodes know, that this node has yet to apply.
fn lag(nodes: &[NodeAnswer], status: &NodeStatus) -> u64 {
    let commit = nodes.iter().flat_map(|(_, status)| status).map(|status| status.commit).max();
    commit.unwrap_or_default().saturating_sub(status.applied)
}

fn log_table(entries: &[LogLine]) -> String {
    let rows = entries.iter().map(|entry| {
        let committed = if entry.committed { "yes" } else { "no" };
        [
            entry.index.to_string(),
            entry.term.to_string(),
            entry.time_ms.to_string(),
            entry.kind.clone(),
            committed.to_owned(),
            one_line(&entry.text),
        ]
    });
    table(["INDEX", "TERM", "TIME_MS", "KIND", "COMMITTED", "TEXT"], rows)
}

fn topic_table(info: &TopicInfo) -> String {
    let TopicInfo { messages, leased, bytes, oldest_ms, limits } = info;
    let oldest = oldest_ms.map_or_else(|| "-".to_owned(), |age| age.to_string());
    let row = [
        messages.to_string(),
        leased.to_string(),
        bytes.to_string(),
        oldest,
        limits.messages.to_string(),
        limits.bytes.to_string(),
        limits.deliveries.to_string(),
    ];
    let head = ["MESSAGES", "LEASED", "BYTES", "OLDEST_MS", "MAX_MESSAGES", "MAX_BYTES", "MAX_DELIVERIES"];
    table(head, std::iter::once(row))
}

fn delivery_table(deliveries: &[Delivery]) -> String {
    let rows = deliveries.iter().map(|Delivery { id, message, deliveries, lease }| {
        [id.to_string(), lease.to_string(), deliveries.to_string(), words::quote(message)]
    });
    table(["ID", "LEASE", "DELIVERIES", "MESSAGE"], rows)
}

/// Columns as wide as their widest cell, two blanks apart.
fn table<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<_> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let mut widths = [0; N];
    for row in &rows {
        widths.iter_mut().zip(row).for_each(|(width, cell)| *width = cell.chars().count().max(*width));
    }
    let line = |row: &[String; N]| -> String {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// JSON whose fields keep their order.
enum Json {
    Plain(serde_json::Value),
    Array(Vec<Json>),
    Object(Object),
}

struct Object(Vec<(&'static str, Json)>);

impl Object {
    fn line(&self) -> String {
        serde_json::to_string(self).expect("JSON with text as keys, in memory, cannot fail")
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Json::Plain(value) => value.serialize(serializer),
            Json::Array(values) => values.serialize(serializer),
            Json::Object(object) => object.serialize(serializer),
        }
    }
}

impl<T: Into<serde_json::Value>> From<T> for Json {
    fn from(value: T) -> Self {
        Json::Plain(value.into())
    }
}

fn text_or_base64(name: &'static str, name_base64: &'static str, bytes: &[u8]) -> (&'static str, Json) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (name, text.to_owned().into()),
        Err(_) => (name_base64, BASE64_STANDARD.encode(bytes).into()),
    }
}

fn item_json(key: &[u8], value: &Value) -> Object {
    Object(vec![
        text_or_base64("key", "key_base64", key),
        text_or_base64("value", "value_base64", &value.bytes),
        ("revision", value.revision.into()),
    ])
}

fn topic_json(name: &[u8], info: &TopicInfo) -> Object {
    let TopicInfo { messages, leased, bytes, oldest_ms, limits } = info;
    Object(vec![
        text_or_base64("topic", "topic_base64", name),
        ("messages", (*messages).into()),
        ("leased", (*leased).into()),
        ("bytes", (*bytes).into()),
        ("oldest_ms", (*oldest_ms).into()),
        ("max_messages", limits.messages.into()),
        ("max_bytes", limits.bytes.into()),
        ("max_deliveries", limits.deliveries.into()),
    ])
}

fn messages_json<'a>(messages: impl IntoIterator<Item = &'a Bytes>) -> Json {
    let message = |bytes| Json::Object(Object(vec![text_or_base64("message", "message_base64", bytes)]));
    Json::Array(messages.into_iter().map(|bytes| message(bytes)).collect())
}

fn delivery_json(delivery: &Delivery) -> Json {
    Json::Object(Object(vec![
        ("id", delivery.id.into()),
        text_or_base64("message", "message_base64", &delivery.message),
        ("deliveries", delivery.deliveries.into()),
        ("lease", delivery.lease.into()),
    ]))
}

fn of_node(node: &NodeAddress) -> [(&'static str, Json); 2] {
    [("id", node.id.0.into()), ("label", node.label.clone().into())]
}

fn status_json(nodes: &[NodeAnswer]) -> Vec<Json> {
    let row = |(node, status): &NodeAnswer| {
        let status = status.as_ref().ok();
        let number = |field: fn(&NodeStatus) -> u64| Json::from(status.map(field));
        let mut object = Object(of_node(node).into());
        object.0.extend([
            ("reachable", status.is_some().into()),
            ("role", status.map(|status| status.role.to_string()).into()),
            ("term", number(|status| status.term)),
            ("leader", status.and_then(|status| status.leader).map(|id| id.0).into()),
            ("last", number(|status| status.last)),
            ("commit", number(|status| status.commit)),
            ("applied", number(|status| status.applied)),
            ("lag", status.map(|status| lag(nodes, status)).into()),
        ]);
        if status.is_some_and(|status| status.abstains) {
            object.0.push(("abstains", true.into()));
        }
        Json::Object(object)
    };
    nodes.iter().map(row).collect()
}

fn entry_json(entry: &LogLine) -> Json {
    Json::Object(Object(vec![
        ("index", entry.index.into()),
        ("term", entry.term.into()),
        ("time_ms", entry.time_ms.into()),
        ("kind", entry.kind.clone().into()),
        ("text", entry.text.clone().into()),
        ("committed", entry.committed.into()),
    ]))
}
