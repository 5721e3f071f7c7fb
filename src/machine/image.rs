//! The state in a snapshot: how it is written and read back. `docs/FORMATS.md` has it byte by byte.
//!
//! Both ways go item by item, so that the memory needed does not grow with the state.

use std::io::{self, Read, Write};

use bytes::Bytes;
use serde::Serialize;

use super::command::Value;
use super::composite::Composite;
use super::cow_map::CowMap;
use super::kv::{Item, KeyValue};
use super::once::{Answered, Once};
use super::queue::{Message, Queue, Topic};
use super::session::{Session, Sessions};
use super::table::Table;
use super::{Machine, MachineSnapshot};
use crate::mutants::{Mutant, mutant};

const VERSION: u32 = 1;
const END: u32 = 0;
const KEY_VALUE: u32 = 1;
/// The numbers of the tables, each of which is a section.
pub(super) const TOPICS: u32 = 2;
pub(super) const MESSAGES: u32 = 3;
pub(super) const SESSIONS: u32 = 4;
pub(super) const ANSWERS: u32 = 5;
pub(super) const ONCE: u32 = 6;
pub(super) const EXPIRIES: u32 = 7;
pub(super) const CHANGES: u32 = 8;
pub(super) const NUMBERS: u32 = 9;
/// What is allocated at once for a key or value: its length is believed only as far as its bytes are there.
const PIECE_BYTES: usize = 1 << 20;

/// The composite machine's state at one moment.
pub(super) struct Image {
    applied: u64,
    entries: CowMap<Item>,
    queue: (Table<Topic>, Table<Message>),
    sessions: (Table<Session>, Table<Bytes>),
    once: Table<Answered>,
    expiries: Table<u64>,
    changes: Table<u64>,
    numbers: Table<u64>,
    digest: u64,
}

impl Image {
    /// A machine's state as it is now.
    pub fn of(machine: &Composite) -> Self {
        let (expiries, changes) = machine.kv.tables();
        Image {
            applied: machine.applied,
            expiries,
            changes,
            numbers: machine.queue.numbers(NUMBERS, machine.applied),
            entries: machine.kv.entries(),
            queue: machine.queue.tables(),
            sessions: machine.sessions.tables(),
            once: machine.once.table(),
            digest: if mutant(Mutant::M26a) {
                machine.digest().wrapping_sub(machine.sessions.digest())
            } else {
                machine.digest()
            },
        }
    }
}

impl MachineSnapshot for Image {
    fn write(self: Box<Self>, to: &mut dyn Write) -> io::Result<()> {
        let Image { applied, entries, queue, sessions, once, expiries, changes, numbers, digest } = *self;
        to.write_all(&VERSION.to_le_bytes())?;
        to.write_all(&applied.to_le_bytes())?;
        to.write_all(&KEY_VALUE.to_le_bytes())?;
        to.write_all(&entries.len().to_le_bytes())?;
        entries.consume(|key, item| write_item(to, key, item.value()))?;
        write_table(queue.0, to)?;
        write_table(queue.1, to)?;
        if !mutant(Mutant::M26a) {
            write_table(sessions.0, to)?;
            write_table(sessions.1, to)?;
        }
        write_table(once, to)?;
        write_table(expiries, to)?;
        write_table(changes, to)?;
        write_table(numbers, to)?;
        to.write_all(&END.to_le_bytes())?;
        to.write_all(&digest.to_le_bytes())
    }
}

/// An empty table has no section: a state without queues is what it was before there were any.
fn write_table<V: Clone + Serialize>(table: Table<V>, to: &mut dyn Write) -> io::Result<()> {
    if table.len() == 0 { Ok(()) } else { table.write(to) }
}

/// Reads a state back.
pub(super) fn read(from: &mut dyn Read) -> Result<Composite, String> {
    let composite = read_parts(from).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => "the machine's state ends too early".into(),
        _ => format!("cannot read the machine's state: {error}"),
    })?;
    match from.read(&mut [0]) {
        Ok(0) => Ok(composite),
        Ok(_) => Err("the machine's state is followed by more bytes".into()),
        Err(error) => Err(format!("cannot read the end of the machine's state: {error}")),
    }
}

fn read_parts(from: &mut dyn Read) -> io::Result<Composite> {
    let version = u32::from_le_bytes(read_array(from)?);
    if version != VERSION {
        return Err(invalid(format!("format version {version}, expected {VERSION}: it is of another version")));
    }
    let applied = read_u64(from)?;
    let (mut entries, mut once) = (CowMap::default(), Table::new(ONCE));
    let (mut expiries, mut changes) = (Table::new(EXPIRIES), Table::new(CHANGES));
    let mut numbers = Table::new(NUMBERS);
    let mut queue = (Table::new(TOPICS), Table::new(MESSAGES));
    let mut sessions = (Table::new(SESSIONS), Table::new(ANSWERS));
    let mut last = END;
    loop {
        let section = u32::from_le_bytes(read_array(from)?);
        if section != END && section <= last {
            return Err(invalid(format!("section {section} comes after section {last}")));
        }
        last = section;
        match section {
            KEY_VALUE => entries = read_entries(from, applied)?,
            TOPICS => queue.0 = Table::read(section, from)?,
            MESSAGES => queue.1 = Table::read(section, from)?,
            SESSIONS => sessions.0 = Table::read(section, from)?,
            ANSWERS => sessions.1 = Table::read(section, from)?,
            ONCE => once = Table::read(section, from)?,
            EXPIRIES => expiries = Table::read(section, from)?,
            CHANGES => changes = Table::read(section, from)?,
            NUMBERS => numbers = Table::read(section, from)?,
            END => break,
            _ => return Err(invalid(format!("section {section} is unknown: it is of another version"))),
        }
    }
    let kv = KeyValue::of(entries, expiries, changes).map_err(invalid)?;
    let queue = Queue::of(queue.0, queue.1, &numbers).map_err(invalid)?;
    let sessions = Sessions::of(sessions.0, sessions.1).map_err(invalid)?;
    let machine = Composite { kv, queue, sessions, once: Once::of(once), applied };
    let (stated, computed) = (read_u64(from)?, machine.digest());
    if stated != computed {
        return Err(invalid(format!("its digest is {computed:016x}, expected {stated:016x}")));
    }
    Ok(machine)
}

fn read_entries(from: &mut dyn Read, applied: u64) -> io::Result<CowMap<Item>> {
    let mut entries = CowMap::default();
    let mut last: Option<Bytes> = None;
    for number in 1..=read_u64(from)? {
        let (key, value) = read_item(from)?;
        if last.is_some_and(|last| last >= key) || value.revision > applied {
            return Err(invalid(format!("key {number} is out of order, or of a later revision than the state")));
        }
        last = Some(key.clone());
        let item = Item::new(&key, value);
        entries.insert(key, item);
    }
    Ok(entries)
}

fn write_item(to: &mut dyn Write, key: &Bytes, value: &Value) -> io::Result<()> {
    let length = |bytes: &Bytes| u32::try_from(bytes.len()).map_err(|_| invalid("a key or value above 4 GiB"));
    let [a, b, c, d] = length(key)?.to_le_bytes();
    let [e, f, g, h] = length(&value.bytes)?.to_le_bytes();
    to.write_all(&[a, b, c, d, e, f, g, h])?;
    to.write_all(&value.revision.to_le_bytes())?;
    to.write_all(key)?;
    to.write_all(&value.bytes)
}

fn read_item(from: &mut dyn Read) -> io::Result<(Bytes, Value)> {
    let key_bytes = u32::from_le_bytes(read_array(from)?);
    let value_bytes = u32::from_le_bytes(read_array(from)?);
    let revision = read_u64(from)?;
    let key = read_bytes(from, key_bytes as usize)?;
    Ok((key, Value { bytes: read_bytes(from, value_bytes as usize)?, revision }))
}

pub(super) fn read_bytes(from: &mut dyn Read, length: usize) -> io::Result<Bytes> {
    let mut bytes = Vec::new();
    while bytes.len() < length {
        let start = bytes.len();
        bytes.resize(length.min(start + PIECE_BYTES), 0);
        from.read_exact(bytes.get_mut(start..).unwrap_or_default())?;
    }
    Ok(bytes.into())
}

pub(super) fn read_u64(from: &mut dyn Read) -> io::Result<u64> {
    Ok(u64::from_le_bytes(read_array(from)?))
}

pub(super) fn read_array<const N: usize>(from: &mut dyn Read) -> io::Result<[u8; N]> {
    let mut array = [0; N];
    from.read_exact(&mut array)?;
    Ok(array)
}

pub(super) fn invalid(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::consensus::{Index, LogTime, SessionSequence};
    use crate::machine::command::{Answer, Change, Command, Condition, Lifetime, Query, Step};
    use crate::machine::queue::command::{QueueAnswer, QueueChange, QueueQuery, Settlement, TopicLimits};
    use crate::machine::{Applied, Asked};

    fn apply(machine: &mut Composite, index: u64, change: Change) {
        let command = &Command::Change(change).encode();
        machine.apply(Applied { index: Index(index), time: LogTime(index), session: None, command, is_awaited: true });
    }

    fn set(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Change {
        Change::Set { key: key.into(), value: value.into(), condition: Condition::Always, want_old: false }
    }

    fn image(machine: &Composite) -> Vec<u8> {
        let mut bytes = Vec::new();
        machine.snapshot().unwrap().write(&mut bytes).unwrap();
        bytes
    }

    fn restored(mut bytes: &[u8]) -> Result<Composite, String> {
        let mut machine = Composite::default();
        apply(&mut machine, 1, set("old", "to be forgotten"));
        machine.restore(&mut bytes)?;
        Ok(machine)
    }

    /// Everything that clients can see.
    fn seen(machine: &Composite) -> Vec<Answer> {
        let ask =
            |query: Query| Answer::decode(&machine.query(Asked { time: LogTime(0), query: &query.encode() })).unwrap();
        let scan = |cursor, count| ask(Query::Scan { cursor, count, pattern: None });
        let topics = ask(Query::Queue(QueueQuery::Topics { after: 0, limit: 1000 }));
        let mut seen =
            vec![ask(Query::State { limit: 1000 }), ask(Query::View), topics, ask(Query::Size), scan(0, 1000)];
        while let Some(Answer::Keys { cursor: cursor @ 1.., .. }) = seen.last() {
            seen.push(scan(*cursor, 3));
        }
        seen
    }

    fn example() -> Composite {
        let mut machine = Composite::default();
        apply(&mut machine, 1, set("colour", "blue"));
        apply(&mut machine, 2, set("empty", ""));
        apply(&mut machine, 3, set("", "the empty key"));
        apply(&mut machine, 4, Change::Delete { keys: vec!["missing".into()] });
        machine
    }

    /// With something in every table.
    fn example_of_tables() -> Composite {
        let mut machine = example();
        let mut run = |index, session, command: Command| {
            let command = &command.encode();
            machine.apply(Applied {
                index: Index(index),
                time: LogTime(10 * index),
                session,
                command,
                is_awaited: true,
            });
        };
        let queue = |change| Change::Queue { topic: "jobs".into(), change };
        let put = |message: &'static str| queue(QueueChange::Put { message: message.into(), create: true });
        run(5, None, Command::OpenSession);
        run(6, Some(SessionSequence { session: 5, sequence: 1 }), put("first").into());
        let steps = vec![Step::Change(put("second"))];
        run(7, None, Command::Once { key: "request".into(), request: 77, guards: vec![], steps });
        run(8, None, queue(QueueChange::Receive { max: 1, lease_ms: 30_000 }).into());
        machine
    }

    /// With keys that expire as well, and changes that are remembered.
    fn example_of_names() -> Composite {
        let mut machine = example_of_tables();
        let (key, condition) = ("session".into(), Condition::Always);
        let lifetime = Lifetime::Milliseconds(1000);
        apply(&mut machine, 9, Change::SetExpiring { key, value: "x".into(), condition, want_old: false, lifetime });
        apply(&mut machine, 10, Change::Push { topic: "list".into(), messages: vec!["one".into(), "two".into()] });
        apply(&mut machine, 11, Change::Remove { keys: vec!["empty".into()] });
        machine
    }

    #[test]
    fn keys_expire_and_changes_are_known_after_a_snapshot() {
        let mut machine = example_of_names();
        let mut restored = restored(&image(&machine)).unwrap();
        assert_eq!(restored.deadline(), Some(LogTime(1009)));
        assert!(restored.has_changed_since(b"empty", 10) && restored.has_changed_since(b"list", 9));
        assert!(!restored.has_changed_since(b"empty", 11) && !restored.has_changed_since(b"list", 10));
        for machine in [&mut machine, &mut restored] {
            machine.advance(Index(12), LogTime(1008));
            assert!(machine.kv.get(b"session").is_some());
            machine.advance(Index(13), LogTime(1009));
            assert!(machine.kv.get(b"session").is_none() && machine.has_changed_since(b"session", 12));
        }
        assert_eq!(machine.digest(), restored.digest());
    }

    #[test]
    fn a_request_of_a_session_is_answered_and_not_run_again_after_a_snapshot() {
        let mut machine = example();
        let open = &Command::OpenSession.encode();
        machine.apply(Applied { index: Index(5), time: LogTime(5), session: None, command: open, is_awaited: true });
        let delete = &Command::Change(Change::Delete { keys: vec!["colour".into()] }).encode();
        let session = Some(SessionSequence { session: 5, sequence: 1 });
        let ask = |machine: &mut Composite, index| {
            machine.apply(Applied {
                index: Index(index),
                time: LogTime(index),
                session,
                command: delete,
                is_awaited: true,
            })
        };
        let first = ask(&mut machine, 6);
        let mut restored = restored(&image(&machine)).unwrap();
        for machine in [&mut machine, &mut restored] {
            apply(machine, 7, set("colour", "red"));
            assert_eq!(ask(machine, 8), first);
            assert_eq!(machine.kv.len(), 3, "what was set since is not deleted");
        }
    }

    #[test]
    fn lists_and_numbers_go_on_after_a_snapshot() {
        let mut machine = example();
        let change = |machine: &mut Composite, index, change: Change| {
            let command = &Command::Change(change).encode();
            machine.apply(Applied {
                index: Index(index),
                time: LogTime(index),
                session: None,
                command,
                is_awaited: true,
            })
        };
        let append = |value: &'static str| Change::Append { key: "log".into(), value: value.into() };
        change(&mut machine, 5, append("first"));
        change(&mut machine, 6, Change::Add { key: "sum".into(), delta: 5 });
        let mut restored = restored(&image(&machine)).unwrap();
        let told = |answer: Bytes| Answer::decode(&answer).unwrap();
        assert_eq!(told(change(&mut restored, 7, append("second"))), Answer::Count(1));
        let sum = Value { bytes: "3".into(), revision: 8 };
        let add = Change::Add { key: "sum".into(), delta: -2 };
        assert_eq!(told(change(&mut restored, 8, add)), Answer::Value(Some(sum)));
    }

    /// Three topics of one entry, and the last of them is gone.
    fn example_of_numbers() -> Composite {
        let mut machine = example();
        let limits = TopicLimits::default();
        let create = |topic: &'static str| {
            let change = QueueChange::Create { limits: limits.clone() };
            Step::Change(Change::Queue { topic: topic.into(), change })
        };
        let command = &Command::Exec { watched: vec![], steps: ["a", "b", "c"].map(create).to_vec() }.encode();
        machine.apply(Applied { index: Index(5), time: LogTime(5), session: None, command, is_awaited: true });
        apply(&mut machine, 6, Change::Queue { topic: "c".into(), change: QueueChange::Delete });
        machine
    }

    #[test]
    fn a_topics_number_never_comes_again() {
        let mut machine = example_of_numbers();
        let mut restored = restored(&image(&machine)).unwrap();
        for machine in [&mut machine, &mut restored] {
            apply(machine, 7, Change::Push { topic: "c".into(), messages: vec!["x".into()] });
            let topics = Query::Queue(QueueQuery::Topics { after: 6, limit: 9 }).encode();
            let answer = Answer::decode(&machine.query(Asked { time: LogTime(0), query: &topics })).unwrap();
            let topics = vec![(8, "c".into())];
            assert_eq!(answer, Answer::Queue(QueueAnswer::Topics { topics, more: false }), "it was 7 before");
            // What the last entry tells is not kept: two states that go on the same are the same.
            machine.advance(Index(8), LogTime(8));
            apply(machine, 9, Change::Remove { keys: vec!["c".into()] });
            assert_eq!(machine.queue.numbers(NUMBERS, 9).len(), 0);
        }
        assert_eq!(machine.digest(), restored.digest());
    }

    #[test]
    fn the_image_is_the_golden_file() {
        assert_golden("composite", &example());
        assert_golden("composite_all", &example_of_names());
        assert_golden("composite_numbers", &example_of_numbers());
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a golden file is a file")]
    fn an_image_from_before_there_were_changes_to_remember_is_read() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/machine/composite_queue");
        let machine = restored(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(machine.stored_digest(), example_of_tables().stored_digest());
    }

    #[expect(clippy::disallowed_methods, reason = "a golden file is a file")]
    fn assert_golden(name: &str, machine: &Composite) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/machine").join(name);
        let bytes = image(machine);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &bytes).unwrap();
        }
        let golden = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(bytes, golden, "a change of the format");
        assert_eq!(seen(&restored(&golden).unwrap()), seen(machine));
    }

    #[test]
    fn tables_that_contradict_each_other_are_refused() {
        let machine = example_of_tables();
        let refused = |change: &dyn Fn(&mut Image)| {
            let mut image = Image::of(&machine);
            change(&mut image);
            let mut bytes = Vec::new();
            Box::new(image).write(&mut bytes).unwrap();
            restored(&bytes).expect_err("it is refused")
        };
        let error = refused(&|image| image.queue.0 = Table::new(TOPICS));
        assert!(error.contains("messages without a topic"), "{error}");
        let error = refused(&|image| image.queue.1 = Table::new(MESSAGES));
        assert!(error.contains("has not the messages that it counts"), "{error}");
        let error = refused(&|image| image.sessions.0 = Table::new(SESSIONS));
        assert!(error.contains("answers without a session"), "{error}");
        let error = refused(&|image| image.sessions.1 = Table::new(ANSWERS));
        assert!(error.contains("has not the answers that it counts"), "{error}");
        let error = refused(&|image| image.expiries.insert("nobody".into(), 5));
        assert!(error.contains("a key expires that is not there"), "{error}");
        let error = refused(&|image| image.once = Table::new(ONCE));
        assert!(error.contains("its digest is"), "{error}");
    }

    #[test]
    fn damage_is_an_error() {
        let bytes = image(&example_of_tables());
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // The index of the last command is no part of the digest; what holds the image has its own checksums.
            assert!(restored(&flipped).is_err() || (32..96).contains(&bit), "bit {bit} was flipped");
        }
        for length in 0..bytes.len() {
            let error = restored(&bytes[..length]).unwrap_err();
            assert_eq!(error, "the machine's state ends too early", "{length} bytes");
        }
        let error = restored(&[&bytes[..], b"x"].concat()).unwrap_err();
        assert_eq!(error, "the machine's state is followed by more bytes");
    }

    #[test]
    fn lengths_are_not_believed() {
        let mut bytes = image(&Composite::default());
        let count = bytes.len() - 12 - 8;
        bytes[count..count + 8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(restored(&bytes).is_err());
        bytes.truncate(count + 8);
        bytes.extend([0xff; 8]);
        bytes.extend([0; 100]);
        assert_eq!(restored(&bytes).err().as_deref(), Some("the machine's state ends too early"));
    }

    fn any_change() -> impl Strategy<Value = Change> {
        let key = || (0..200u8).prop_map(|key| Bytes::from(key.to_string()));
        let queue = |(topic, change): (u8, QueueChange)| Change::Queue { topic: vec![b'a' + topic].into(), change };
        prop_oneof![
            4 => (0..3u8, any_queue_change()).prop_map(queue),
            4 => (key(), vec(any::<u8>(), 0..40)).prop_map(|(key, value)| set(key, value)),
            1 => vec(key(), 1..30).prop_map(|keys| Change::Delete { keys }),
        ]
    }

    fn any_queue_change() -> impl Strategy<Value = QueueChange> {
        let settlement = prop_oneof![
            Just(Settlement::Ack),
            Just(Settlement::Nack),
            (1..30u64).prop_map(|lease_ms| Settlement::Extend { lease_ms })
        ];
        let limits = TopicLimits { messages: 10, bytes: 100, deliveries: 2 };
        prop_oneof![
            8 => vec(any::<u8>(), 0..20)
                .prop_map(|message| QueueChange::Put { message: message.into(), create: true }),
            2 => (1..3u64).prop_map(|max| QueueChange::Take { max }),
            4 => (1..3u64, 1..30u64).prop_map(|(max, lease_ms)| QueueChange::Receive { max, lease_ms }),
            4 => (1..9u64, 1..400u64, settlement).prop_map(|(id, lease, how)| QueueChange::Settle { id, lease, how }),
            1 => prop_oneof![
                Just(QueueChange::Create { limits }),
                Just(QueueChange::Delete),
                Just(QueueChange::Purge)
            ],
        ]
    }

    proptest! {
        #[test]
        fn what_is_restored_is_the_state_at_the_snapshot(
            changes in vec((any_change(), prop::bool::weighted(0.02)), 0..400),
        ) {
            let (mut machine, mut taken) = (Composite::default(), Vec::new());
            for (index, (change, snapshot)) in (1..).zip(changes) {
                apply(&mut machine, index, change);
                if snapshot {
                    taken.push((machine.snapshot().unwrap(), seen(&machine), machine.digest()));
                }
            }
            for (snapshot, expected, digest) in taken {
                let mut bytes = Vec::new();
                snapshot.write(&mut bytes).unwrap();
                let mut copy = restored(&bytes).unwrap();
                prop_assert_eq!(copy.digest(), digest);
                prop_assert_eq!(seen(&copy), expected);
                // It is a machine like any other: the same command has the same effect.
                let mut again = restored(&image(&copy)).unwrap();
                for copy in [&mut copy, &mut again] {
                    apply(copy, 1000, Change::Delete { keys: vec!["1".into(), "2".into()] });
                    for topic in ["a", "b", "c"] {
                        let change = QueueChange::Take { max: 3 };
                        apply(copy, 1000, Change::Queue { topic: topic.into(), change });
                    }
                    apply(copy, 1001, set("1", "new"));
                }
                prop_assert_eq!(seen(&copy), seen(&again));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..100)) {
            let _ = restored(&bytes);
            let _ = restored(&[&[1, 0, 0, 0], &bytes[..]].concat());
            let _ = restored(&[&[1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0], &bytes[..]].concat());
        }
    }
}
