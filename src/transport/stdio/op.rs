//! Entries, requests and answers as readable JSON, for the messages between nodes.
//!
//! All replicas must hold the same bytes. So something is readable only if encoding it again gives exactly the same
//! bytes, whatever the software that carries the messages does to white space, order and numbers; all else travels as
//! base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::Names;
use crate::codec::json;
use crate::consensus::{EntryKind, Membership, NodeId, Payload};
use crate::machine::command::{Answer, Change, Command, Condition, Query, Value};

/// What an entry, a forwarded request or its answer is about.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Op {
    #[serde(rename = "type")]
    kind: Kind,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    key: Json,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    value: Json,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    from: Json,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    to: Json,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    create_if_not_exists: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    voters: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    outgoing: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    learners: Vec<String>,
}

/// A JSON value, not looked into.
type Json = Option<Box<RawValue>>;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// An entry without a command.
    #[default]
    Noop,
    /// An entry that carries log time.
    Tick,
    /// An entry that carries a membership.
    Membership,
    /// A command: set a key.
    Write,
    /// A command: compare and set.
    Cas,
    /// A query: the value of a key.
    Read,
    /// An answer: the command took effect.
    Done,
    /// An answer: a value, or none.
    Value,
    /// An answer: there is no such key.
    Missing,
    /// An answer: the key has another value.
    Different,
    /// A command, query or answer that has no readable form.
    Binary,
}

/// A member that is there, even if it is `null`, which is a value like any other.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

impl Op {
    /// An entry's kind and payload. Fails if a member has no name.
    pub fn of_entry(kind: &EntryKind, payload: &Payload, names: &Names) -> Result<Op, String> {
        Ok(match kind {
            EntryKind::Noop => Op { kind: Kind::Noop, ..Op::default() },
            EntryKind::Tick => Op { kind: Kind::Tick, ..Op::default() },
            EntryKind::Membership(membership) => Op::of_membership(membership, names)?,
            EntryKind::Command => Op::of_command(payload),
        })
    }

    /// The entry's kind and payload.
    pub fn entry(&self, names: &Names) -> Result<(EntryKind, Payload), String> {
        Ok(match self.kind {
            Kind::Noop => (EntryKind::Noop, Payload::EMPTY),
            Kind::Tick => (EntryKind::Tick, Payload::EMPTY),
            Kind::Membership => (EntryKind::Membership(self.membership(names)?.into()), Payload::EMPTY),
            _ => (EntryKind::Command, self.command()?),
        })
    }

    /// A membership. Fails if a member has no name.
    pub fn of_membership(membership: &Membership, names: &Names) -> Result<Op, String> {
        let name = |id: &NodeId| names.name(*id).map(str::to_owned).ok_or_else(|| format!("node {id} has no name"));
        Ok(Op {
            kind: Kind::Membership,
            voters: membership.voters.iter().map(name).collect::<Result<_, _>>()?,
            outgoing: membership.outgoing.iter().map(name).collect::<Result<_, _>>()?,
            learners: membership.learners.iter().map(name).collect::<Result<_, _>>()?,
            ..Op::default()
        })
    }

    /// The membership.
    pub fn membership(&self, names: &Names) -> Result<Membership, String> {
        let id = |name: &String| names.id(name).ok_or_else(|| format!("there is no node {name:?}"));
        Ok(Membership {
            voters: self.voters.iter().map(id).collect::<Result<_, _>>()?,
            outgoing: self.outgoing.iter().map(id).collect::<Result<_, _>>()?,
            learners: self.learners.iter().map(id).collect::<Result<_, _>>()?,
        })
    }

    /// A command.
    pub fn of_command(payload: &Payload) -> Op {
        let op = match Command::decode(payload) {
            Ok(Command::Change(Change::Set { key, value, .. })) => {
                Op { kind: Kind::Write, key: json(&key), value: json(&value), ..Op::default() }
            }
            Ok(Command::Change(Change::CompareAndSet { key, from, to, create })) => Op {
                kind: Kind::Cas,
                key: json(&key),
                from: json(&from),
                to: json(&to),
                create_if_not_exists: create,
                ..Op::default()
            },
            _ => return Op::binary(payload),
        };
        op.if_exact(payload, Op::command)
    }

    /// The command.
    pub fn command(&self) -> Result<Payload, String> {
        let change = match self.kind {
            Kind::Write => Change::Set {
                key: bytes("key", &self.key)?,
                value: bytes("value", &self.value)?,
                condition: Condition::Always,
                want_old: false,
            },
            Kind::Cas => Change::CompareAndSet {
                key: bytes("key", &self.key)?,
                from: bytes("from", &self.from)?,
                to: bytes("to", &self.to)?,
                create: self.create_if_not_exists,
            },
            _ => return self.binary_payload("a command"),
        };
        Ok(Payload(Command::Change(change).encode()))
    }

    /// A query.
    pub fn of_query(payload: &Payload) -> Op {
        let op = match Query::decode(payload) {
            Ok(Query::Get { key }) => Op { kind: Kind::Read, key: json(&key), ..Op::default() },
            _ => return Op::binary(payload),
        };
        op.if_exact(payload, Op::query)
    }

    /// The query.
    pub fn query(&self) -> Result<Payload, String> {
        match self.kind {
            Kind::Read => Ok(Payload(Query::Get { key: bytes("key", &self.key)? }.encode())),
            _ => self.binary_payload("a query"),
        }
    }

    /// An answer to a command or a query.
    pub fn of_answer(payload: &Payload) -> Op {
        let op = match Answer::decode(payload) {
            Ok(Answer::Set { revision, .. }) => Op { kind: Kind::Done, revision, ..Op::default() },
            Ok(Answer::Value(None)) => Op { kind: Kind::Value, ..Op::default() },
            Ok(Answer::Value(Some(Value { bytes, revision }))) => {
                Op { kind: Kind::Value, value: json(&bytes), revision: Some(revision), ..Op::default() }
            }
            Ok(Answer::Missing) => Op { kind: Kind::Missing, ..Op::default() },
            Ok(Answer::Different { actual }) => Op { kind: Kind::Different, value: json(&actual), ..Op::default() },
            _ => return Op::binary(payload),
        };
        op.if_exact(payload, Op::answer)
    }

    /// The answer.
    pub fn answer(&self) -> Result<Payload, String> {
        let answer = match self.kind {
            Kind::Done => Answer::Set { revision: self.revision, old: None },
            Kind::Value => Answer::Value(match self.revision {
                Some(revision) => Some(Value { bytes: bytes("value", &self.value)?, revision }),
                None => None,
            }),
            Kind::Missing => Answer::Missing,
            Kind::Different => Answer::Different { actual: bytes("value", &self.value)? },
            _ => return self.binary_payload("an answer"),
        };
        Ok(Payload(answer.encode()))
    }

    /// This readable form, if it leads back to exactly the same bytes.
    fn if_exact(self, payload: &Payload, back: fn(&Op) -> Result<Payload, String>) -> Op {
        if back(&self).as_ref() == Ok(payload) { self } else { Op::binary(payload) }
    }

    fn binary(payload: &Payload) -> Op {
        Op { kind: Kind::Binary, base64: Some(STANDARD.encode(&**payload)), ..Op::default() }
    }

    fn binary_payload(&self, expected: &str) -> Result<Payload, String> {
        match (self.kind, &self.base64) {
            (Kind::Binary, Some(base64)) => {
                STANDARD.decode(base64).map(Payload::from).map_err(|error| format!("`base64`: {error}"))
            }
            (kind, _) => Err(format!("an op is not {expected}: {kind:?}")),
        }
    }
}

/// The JSON value that these bytes are the text of. `None` if it might arrive as another.
fn json(bytes: &Bytes) -> Json {
    let value = RawValue::from_string(std::str::from_utf8(bytes).ok()?.to_owned()).ok()?;
    json::canonical(&value).ok()?.portable.then_some(value)
}

/// The bytes that stand for a JSON value.
fn bytes(name: &str, value: &Json) -> Result<Bytes, String> {
    let value = value.as_deref().ok_or_else(|| format!("an op has no `{name}`"))?;
    Ok(json::canonical(value).map_err(|why| format!("`{name}`: {why}"))?.text.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn readable(op: &Op) -> bool {
        op.kind != Kind::Binary
    }

    fn set(key: &str, value: &str) -> Payload {
        let (key, value) = (Bytes::copy_from_slice(key.as_bytes()), Bytes::copy_from_slice(value.as_bytes()));
        Payload(Command::Change(Change::Set { key, value, condition: Condition::Always, want_old: false }).encode())
    }

    #[test]
    fn what_maelstrom_clients_send_is_readable() {
        let op = Op::of_command(&set("1", r#"{"a":[null]}"#));
        assert_eq!(serde_json::to_string(&op).unwrap(), r#"{"type":"write","key":1,"value":{"a":[null]}}"#);
        let op = Op::of_command(&set("1", "null"));
        assert_eq!(serde_json::to_string(&op).unwrap(), r#"{"type":"write","key":1,"value":null}"#);
        let cas = |create| Change::CompareAndSet { key: "\"k\"".into(), from: "1".into(), to: "2".into(), create };
        let text =
            |create| serde_json::to_string(&Op::of_command(&Payload(Command::Change(cas(create)).encode()))).unwrap();
        assert_eq!(text(false), r#"{"type":"cas","key":"k","from":1,"to":2}"#);
        assert_eq!(text(true), r#"{"type":"cas","key":"k","from":1,"to":2,"create_if_not_exists":true}"#);
    }

    #[test]
    fn what_might_change_on_the_way_is_binary() {
        for (key, value) in [("x", "1"), ("1", "[1, 2]"), ("1", "1.5"), ("1", "12345678901234567890"), ("1", "1e1")] {
            assert!(!readable(&Op::of_command(&set(key, value))), "{key} {value}");
        }
        assert!(!readable(&Op::of_command(&b"anything".to_vec().into())));
        assert!(!readable(&Op::of_command(&Payload::EMPTY)));
    }

    #[test]
    fn nonsense_is_refused() {
        let parse = |text: &str| serde_json::from_str::<Op>(text).unwrap();
        let names = Names::new("n1", vec!["n1".into()]).unwrap();
        for text in [
            r#"{"type":"write","key":1}"#,
            r#"{"type":"cas","key":1,"from":1}"#,
            r#"{"type":"read","key":1}"#,
            r#"{"type":"done"}"#,
            r#"{"type":"binary"}"#,
            r#"{"type":"binary","base64":"!"}"#,
            r#"{"type":"membership","voters":["n7"]}"#,
            r#"{"type":"write","key":"\ud800","value":1}"#,
        ] {
            assert!(parse(text).entry(&names).is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Op>(r#"{"type":"shout"}"#).is_err());
    }

    /// The text of a JSON value, or something close to it.
    fn text() -> impl Strategy<Value = Bytes> {
        prop_oneof![
            any::<i64>().prop_map(|number| number.to_string()),
            (0..100_i32).prop_map(|number| number.to_string()),
            any::<f64>().prop_map(|number| number.to_string()),
            "\"[a-z\\\\\"]{0,3}\"",
            "\\{\"[a-c]\":[0-9],\"[a-c]\": ?[0-9]\\}",
            ".{0,4}",
        ]
        .prop_map(Bytes::from)
    }

    fn there_and_back(op: &Op, decode: fn(&Op) -> Result<Payload, String>) -> Payload {
        // A router may print what it parsed in its own way, here: with other white space and order.
        let value: serde_json::Value = serde_json::from_str(&serde_json::to_string(op).unwrap()).unwrap();
        decode(&serde_json::from_str(&serde_json::to_string_pretty(&value).unwrap()).unwrap()).unwrap()
    }

    proptest! {
        #[test]
        fn payloads_arrive_as_they_were(key in text(), one in text(), two in text(), flag: bool, revision: Option<u64>) {
            let condition = if flag { Condition::Always } else { Condition::Absent };
            let set = Change::Set { key: key.clone(), value: one.clone(), condition, want_old: false };
            let cas = Change::CompareAndSet { key: key.clone(), from: one.clone(), to: two.clone(), create: flag };
            for change in [set, cas, Change::Delete { keys: vec![key.clone()] }] {
                let payload = Payload(Command::Change(change).encode());
                prop_assert_eq!(&there_and_back(&Op::of_command(&payload), Op::command), &payload);
            }
            for query in [Query::Get { key: key.clone() }, Query::Size] {
                let payload = Payload(query.encode());
                prop_assert_eq!(&there_and_back(&Op::of_query(&payload), Op::query), &payload);
            }
            for answer in [
                Answer::Set { revision, old: flag.then_some(two.clone()) },
                Answer::Value(revision.map(|revision| Value { bytes: one.clone(), revision })),
                Answer::Missing,
                Answer::Different { actual: two.clone() },
                Answer::Malformed("text".into()),
            ] {
                let payload = Payload(answer.encode());
                prop_assert_eq!(&there_and_back(&Op::of_answer(&payload), Op::answer), &payload);
            }
        }

        #[test]
        fn any_bytes_arrive_as_they_were(bytes: Vec<u8>) {
            let payload = Payload::from(bytes);
            prop_assert_eq!(&there_and_back(&Op::of_command(&payload), Op::command), &payload);
            prop_assert_eq!(&there_and_back(&Op::of_query(&payload), Op::query), &payload);
            prop_assert_eq!(&there_and_back(&Op::of_answer(&payload), Op::answer), &payload);
        }
    }
}
