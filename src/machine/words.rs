//! Commands in words, for people who look at the log: `set a = 1`, `cas k 1 → 2`.

use std::fmt::{self, Display, Formatter, Write};

use bytes::Bytes;

use super::command::{Change, Command, Condition, ExpireCondition, Guard, Lifetime, Query, Step, Watched};
use super::queue::command::{QueueChange, QueueQuery, Settlement};

/// Most characters of one key or value.
const MAX_CHARS: usize = 40;
/// Most keys, guards or steps of one command.
const MAX_ELEMENTS: usize = 8;

/// A key or value in words: text as it is, control characters and other bytes escaped, long ones cut.
pub struct Words<'a>(pub &'a [u8]);

impl Display for Words<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("''");
        }
        match std::str::from_utf8(self.0) {
            Ok(text) => {
                for c in text.chars().take(MAX_CHARS) {
                    if c.is_control() { write!(f, "{}", c.escape_default())? } else { f.write_char(c)? }
                }
                if text.chars().nth(MAX_CHARS).is_some() { f.write_char('…') } else { Ok(()) }
            }
            Err(_) => {
                let (shown, rest) = self.0.split_at(self.0.len().min(MAX_CHARS));
                write!(f, "{}{}", shown.escape_ascii(), if rest.is_empty() { "" } else { "…" })
            }
        }
    }
}

/// Elements with a separator, the first few.
fn join<T>(
    f: &mut Formatter<'_>,
    elements: &[T],
    separator: &str,
    write_one: impl Fn(&mut Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for (position, element) in elements.iter().take(MAX_ELEMENTS).enumerate() {
        f.write_str(if position == 0 { "" } else { separator })?;
        write_one(f, element)?;
    }
    match elements.len().checked_sub(MAX_ELEMENTS) {
        None | Some(0) => Ok(()),
        Some(rest) => write!(f, "{separator}and {rest} more"),
    }
}

fn keys(f: &mut Formatter<'_>, verb: &str, keys: &[Bytes]) -> fmt::Result {
    write!(f, "{verb} ")?;
    join(f, keys, " ", |f, key| Words(key).fmt(f))
}

impl Display for Command {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Command::Change(change) => change.fmt(f),
            Command::Transaction { guards, steps } => transaction(f, guards, steps),
            Command::OpenSession => f.write_str("open a session"),
            Command::Once { key, guards, steps, .. } => {
                write!(f, "once as {}: ", Words(key))?;
                transaction(f, guards, steps)
            }
            Command::Exec { watched, steps } => transaction(f, watched, steps),
        }
    }
}

fn transaction(f: &mut Formatter<'_>, guards: &[impl Display], steps: &[Step]) -> fmt::Result {
    if !guards.is_empty() {
        f.write_str("if ")?;
        join(f, guards, " and ", |f, guard| guard.fmt(f))?;
        f.write_str(": ")?;
    }
    join(f, steps, "; ", |f, step| step.fmt(f))
}

impl Display for Guard {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.revision {
            Some(revision) => write!(f, "{} is at {revision}", Words(&self.key)),
            None => write!(f, "{} is missing", Words(&self.key)),
        }
    }
}

impl Display for Watched {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} is unchanged since {}", Words(&self.key), self.since)
    }
}

impl Display for Step {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Step::Change(change) => change.fmt(f),
            Step::Query(query) => query.fmt(f),
        }
    }
}

impl Display for Change {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Change::Set { key, value, condition, .. } => {
                write!(f, "set {} = {}{condition}", Words(key), Words(value))
            }
            Change::Delete { keys: deleted } => keys(f, "del", deleted),
            Change::CompareAndSet { key, from, to, create } => {
                write!(f, "cas {} {} → {}", Words(key), Words(from), Words(to))?;
                f.write_str(if *create { " or create" } else { "" })
            }
            Change::Queue { topic, change } => queue(f, &Words(topic), change),
            Change::Add { key, delta } => write!(f, "add {delta} to {}", Words(key)),
            Change::Raise { key, to } => write!(f, "raise {} to {to}", Words(key)),
            Change::Append { key, value } => write!(f, "append {} to {}", Words(value), Words(key)),
            Change::SetExpiring { key, value, condition, lifetime, .. } => {
                write!(f, "set {} = {}", Words(key), Words(value))?;
                match lifetime {
                    Lifetime::Kept => f.write_str(" for as long as before")?,
                    Lifetime::Milliseconds(ms) => write!(f, " for {ms} ms")?,
                }
                condition.fmt(f)
            }
            Change::Expire { key, after_ms, condition } => {
                write!(f, "expire {} after {after_ms} ms{condition}", Words(key))
            }
            Change::Persist { key } => write!(f, "persist {}", Words(key)),
            Change::GetDelete { key } => write!(f, "get and del {}", Words(key)),
            Change::Concatenate { key, value } => write!(f, "append {} to the value of {}", Words(value), Words(key)),
            Change::SetAll { items, if_absent } => {
                f.write_str("set ")?;
                join(f, items, ", ", |f, (key, value)| write!(f, "{} = {}", Words(key), Words(value)))?;
                f.write_str(if *if_absent { " if all are missing" } else { "" })
            }
            Change::Remove { keys: removed } => keys(f, "remove", removed),
            Change::Push { topic, messages } => {
                keys(f, "push", messages)?;
                write!(f, " to {}", Words(topic))
            }
            Change::Pop { topics } => keys(f, "pop from", topics),
        }
    }
}

impl Display for Condition {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Condition::Always => Ok(()),
            Condition::Absent => f.write_str(" if missing"),
            Condition::Present => f.write_str(" if present"),
            Condition::Equals(expected) => write!(f, " if it is {}", Words(expected)),
        }
    }
}

impl Display for ExpireCondition {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ExpireCondition::Always => "",
            ExpireCondition::Lasting => " if it does not expire",
            ExpireCondition::Expiring => " if it expires",
            ExpireCondition::Later => " if that is later",
            ExpireCondition::Earlier => " if that is earlier",
            ExpireCondition::ExpiringEarlier => " if it expires, and earlier then",
        })
    }
}

fn queue(f: &mut Formatter<'_>, topic: &Words<'_>, change: &QueueChange) -> fmt::Result {
    match change {
        QueueChange::Create { .. } => write!(f, "create topic {topic}"),
        QueueChange::Delete => write!(f, "delete topic {topic}"),
        QueueChange::Purge => write!(f, "purge {topic}"),
        QueueChange::Put { message, .. } => write!(f, "put {} on {topic}", Words(message)),
        QueueChange::Take { max: 1 } => write!(f, "take from {topic}"),
        QueueChange::Take { max } => write!(f, "take up to {max} from {topic}"),
        QueueChange::Receive { max, lease_ms } => write!(f, "receive up to {max} from {topic} for {lease_ms} ms"),
        QueueChange::Settle { id, how, .. } => match how {
            Settlement::Ack => write!(f, "ack {id} of {topic}"),
            Settlement::Nack => write!(f, "nack {id} of {topic}"),
            Settlement::Extend { lease_ms } => write!(f, "extend {id} of {topic} by {lease_ms} ms"),
        },
    }
}

impl Display for Query {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Query::Get { key } => write!(f, "get {}", Words(key)),
            Query::Exists { keys: counted } => keys(f, "exists", counted),
            Query::List { prefix, after: Some(after), limit } => {
                write!(f, "list {} after {} limit {limit}", Words(prefix), Words(after))
            }
            Query::List { prefix, after: None, limit } => write!(f, "list {} limit {limit}", Words(prefix)),
            Query::Scan { cursor, .. } => write!(f, "scan from {cursor}"),
            Query::Size => f.write_str("size"),
            Query::Keys { pattern } => write!(f, "keys {}", Words(pattern)),
            Query::State { .. } => f.write_str("state"),
            Query::Queue(QueueQuery::Topics { .. }) => f.write_str("topics"),
            Query::Queue(QueueQuery::Info { topic }) => write!(f, "topic {}", Words(topic)),
            Query::Queue(QueueQuery::Peek { topic, after, .. }) => write!(f, "peek at {} after {after}", Words(topic)),
            Query::View => f.write_str("view"),
            Query::IsAnswered { key } => write!(f, "is {} answered", Words(key)),
            Query::Together { queries } => write!(f, "{} queries together", queries.len()),
            Query::GetAll { keys: asked } => keys(f, "get", asked),
            Query::Type { key } => write!(f, "type of {}", Words(key)),
            Query::Left { key } => write!(f, "how long {} lasts", Words(key)),
            Query::ValueLength { key } | Query::ListLength { topic: key } => write!(f, "length of {}", Words(key)),
            Query::Range { topic, start, stop } => write!(f, "{start} to {stop} of {}", Words(topic)),
            Query::Index => f.write_str("index"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(key: &[u8], value: &[u8], condition: Condition) -> Change {
        let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        Change::Set { key, value, condition, want_old: false }
    }

    #[test]
    fn commands_read_as_a_person_would_type_them() {
        let cas = |create| Change::CompareAndSet { key: "k".into(), from: "1".into(), to: "2".into(), create };
        let guards = vec![Guard { key: "a".into(), revision: Some(5) }, Guard { key: "b".into(), revision: None }];
        let steps = vec![Step::Change(set(b"a", b"2", Condition::Always)), Step::Query(Query::Get { key: "c".into() })];
        let many: Vec<Bytes> = (0..20).map(|n| n.to_string().into()).collect();
        let cases: Vec<(Command, &str)> = vec![
            (set(b"a", b"1", Condition::Always).into(), "set a = 1"),
            (set(b"a", b"", Condition::Absent).into(), "set a = '' if missing"),
            (set(b"a", b"1", Condition::Present).into(), "set a = 1 if present"),
            (set(b"a", b"1", Condition::Equals("0".into())).into(), "set a = 1 if it is 0"),
            (set(b"\xffa\n", b"x\ny\x1b", Condition::Always).into(), r"set \xffa\n = x\ny\u{1b}"),
            (cas(false).into(), "cas k 1 → 2"),
            (cas(true).into(), "cas k 1 → 2 or create"),
            (Change::Delete { keys: vec!["a".into(), "b".into()] }.into(), "del a b"),
            (Change::Add { key: "sum".into(), delta: -5 }.into(), "add -5 to sum"),
            (Change::Raise { key: "max".into(), to: 7 }.into(), "raise max to 7"),
            (Change::Append { key: "log".into(), value: "x".into() }.into(), "append x to log"),
            (
                Change::SetExpiring {
                    key: "a".into(),
                    value: "1".into(),
                    condition: Condition::Absent,
                    want_old: false,
                    lifetime: Lifetime::Milliseconds(5),
                }
                .into(),
                "set a = 1 for 5 ms if missing",
            ),
            (
                Change::Expire { key: "a".into(), after_ms: 5, condition: ExpireCondition::Later }.into(),
                "expire a after 5 ms if that is later",
            ),
            (
                Change::SetAll { items: vec![("a".into(), "1".into()), ("b".into(), "2".into())], if_absent: true }
                    .into(),
                "set a = 1, b = 2 if all are missing",
            ),
            (Change::Push { topic: "q".into(), messages: vec!["x".into(), "y".into()] }.into(), "push x y to q"),
            (
                Command::Exec {
                    watched: vec![Watched { key: "a".into(), since: 7 }],
                    steps: vec![Step::Change(Change::Pop { topics: vec!["q".into()] })],
                },
                "if a is unchanged since 7: pop from q",
            ),
            (Change::Delete { keys: many }.into(), "del 0 1 2 3 4 5 6 7 and 12 more"),
            (Command::Transaction { guards, steps }, "if a is at 5 and b is missing: set a = 2; get c"),
        ];
        for (command, words) in cases {
            assert_eq!(command.to_string(), words);
        }
    }

    #[test]
    fn long_values_are_cut() {
        let long = "ä".repeat(1000);
        assert_eq!(Words(long.as_bytes()).to_string(), format!("{}…", "ä".repeat(MAX_CHARS)));
        assert_eq!(Words(&[0xff; 1000]).to_string(), format!("{}…", r"\xff".repeat(MAX_CHARS)));
        assert_eq!(Words("ä".repeat(MAX_CHARS).as_bytes()).to_string(), "ä".repeat(MAX_CHARS));
    }
}
