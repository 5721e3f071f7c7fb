//! The machine that a node runs: one state made of parts, one command that may span them.

use std::io;

use bytes::Bytes;

use super::command::{
    Answer, Command, Guard, MAX_ANSWER_BYTES, MAX_KEY_BYTES, MAX_PATTERN_BYTES, MAX_TRANSACTION_STEPS,
    MAX_TRANSACTION_WORK, MAX_VIEW_BYTES, PlainSet, Query, Step, Watched, item_bytes,
};
use super::image::{self, Image};
use super::kv::{KeyValue, Page};
use super::once::{self, Once};
use super::queue::Queue;
use super::queue::command::QueueAnswer;
use super::session::{self, Sessions};
use super::{Applied, Asked, Machine, MachineSnapshot};
use crate::consensus::{Index, LogTime, SessionSequence};
use crate::marks::{Mark, mark};
use crate::mutants::{Mutant, mutant};

/// Longest command, and question, that can be brief.
const BRIEF_BYTES: usize = 4 << 10;

/// All that is replicated.
#[derive(Clone, Debug)]
pub struct Composite {
    pub(super) kv: KeyValue,
    pub(super) queue: Queue,
    pub(super) sessions: Sessions,
    pub(super) once: Once,
    /// Log index of the last entry.
    pub(super) applied: u64,
}

impl Machine for Composite {
    fn apply(&mut self, command: Applied<'_>) -> Bytes {
        self.advance(command.index, command.time);
        match command.session {
            Some(stamp) => self.apply_in_session(stamp, command.command, command.time),
            None => self.run(command.command, command.time, command.is_awaited),
        }
    }

    fn look_ahead(&self, commands: &mut dyn Iterator<Item = &Bytes>) {
        self.kv.fetch(commands.filter_map(|command| PlainSet::of(command)).map(|set| set.key));
    }

    fn query(&self, asked: Asked<'_>) -> Bytes {
        let answer = match Query::decode(asked.query) {
            Ok(query) => self.answer(&query, MAX_ANSWER_BYTES, asked.time),
            Err(error) => Answer::Malformed(error.to_string()),
        };
        answer.encode()
    }

    fn is_brief(&self, Applied { command, time, .. }: Applied<'_>) -> bool {
        let is_small = command.len() <= BRIEF_BYTES && !self.has_due(time);
        let is_plain = || PlainSet::of(command).is_some();
        is_small && (is_plain() || Command::decode(command).is_ok_and(|command| command.is_brief()))
    }

    fn is_brief_query(&self, query: &[u8]) -> bool {
        query.len() <= BRIEF_BYTES && matches!(Query::decode(query), Ok(Query::Get { .. }))
    }

    fn advance(&mut self, index: Index, time: LogTime) {
        self.applied = index.0;
        self.kv.expire_due(index, time);
        self.queue.expire(index, time);
        self.note_topics();
        self.sessions.expire(time);
        self.once.expire(time);
    }

    /// Leases end and keys expire when they are due. Sessions and the answers kept for keys just take up room: they go with the next entry.
    fn deadline(&self) -> Option<LogTime> {
        [self.queue.deadline(), self.kv.expiries.deadline()].into_iter().flatten().min()
    }

    fn take_woken(&mut self) -> Vec<(Bytes, u64)> {
        self.queue.take_woken()
    }

    fn digest(&self) -> u64 {
        let numbers = self.queue.numbers(image::NUMBERS, self.applied);
        let beside = [self.kv.changes_digest(), self.sessions.digest(), self.once.digest(), numbers.digest()];
        beside.into_iter().fold(self.stored_digest(), u64::wrapping_add)
    }

    fn snapshot(&self) -> Option<Box<dyn MachineSnapshot>> {
        Some(Box::new(Image::of(self)))
    }

    fn restore(&mut self, from: &mut dyn io::Read) -> Result<(), String> {
        // The old state goes first, so that there is never room needed for two.
        *self = Composite::default();
        *self = image::read(from)?;
        Ok(())
    }

    fn describe(&self, command: &[u8]) -> String {
        match Command::decode(command) {
            Ok(command) => command.to_string(),
            Err(_) => format!("{} bytes that are no command", command.len()),
        }
    }
}

impl Default for Composite {
    fn default() -> Self {
        Composite {
            kv: KeyValue::default(),
            queue: Queue::new(image::TOPICS, image::MESSAGES),
            sessions: Sessions::new(image::SESSIONS, image::ANSWERS),
            once: Once::new(image::ONCE),
            applied: 0,
        }
    }
}

impl Composite {
    /// A hash of what clients have stored: without sessions, answers that are kept, and what is remembered of changes.
    pub fn stored_digest(&self) -> u64 {
        self.kv.digest().wrapping_add(self.queue.digest())
    }

    /// Whether something will end or expire, or be forgotten, when log time has come this far.
    fn has_due(&self, time: LogTime) -> bool {
        let waits = self.deadline().is_some_and(|at| at <= time);
        waits || self.sessions.has_due(time) || self.once.has_due(time)
    }

    fn apply_in_session(&mut self, stamp: SessionSequence, command: &Bytes, time: LogTime) -> Bytes {
        match self.sessions.look(stamp, time) {
            session::Known::Answered(answer) if !mutant(Mutant::M26b) => {
                mark(Mark::SessionAnsweredAgain);
                answer
            }
            session::Known::TooOld => Answer::SequenceTooOld.encode(),
            session::Known::NoSession => {
                mark(Mark::SessionOver);
                Answer::SessionUnknown.encode()
            }
            session::Known::New | session::Known::Answered(_) => {
                let answer = self.run(command, time, true);
                self.sessions.keep(stamp, answer.clone());
                answer
            }
        }
    }

    /// Carries out a command. What nobody waits for, to read it or keep it, is not encoded.
    fn run(&mut self, command: &[u8], time: LogTime, is_awaited: bool) -> Bytes {
        if let Some(set) = PlainSet::of(command) {
            let answer = self.set(set);
            return if is_awaited { answer.encode() } else { Bytes::new() };
        }
        let answer = match Command::decode(command) {
            Ok(Command::Change(change)) => self.change(change, MAX_ANSWER_BYTES, time),
            Ok(Command::Transaction { guards, steps }) => self.transaction(&guards, steps, time),
            Ok(Command::Exec { watched, steps }) => self.exec(&watched, steps, time),
            Ok(Command::OpenSession) => {
                self.sessions.open(self.applied, time);
                Answer::Session { id: self.applied }
            }
            Ok(Command::Once { key, request, guards, steps }) => {
                return self.run_once(key, request, &guards, steps, time);
            }
            Err(error) => Answer::Malformed(error.to_string()),
        };
        if is_awaited { answer.encode() } else { Bytes::new() }
    }

    fn run_once(&mut self, key: Bytes, request: u64, guards: &[Guard], steps: Vec<Step>, time: LogTime) -> Bytes {
        if key.len() > MAX_KEY_BYTES {
            let why = format!("a request's key has at most {MAX_KEY_BYTES} bytes, this one {}", key.len());
            return Answer::Malformed(why).encode();
        }
        match self.once.look(&key, request) {
            once::Known::Answered(answer) => answer,
            once::Known::Reused => Answer::KeyReused.encode(),
            once::Known::New => {
                let answer = self.transaction(guards, steps, time).encode();
                self.once.keep(key, request, answer.clone(), time);
                answer
            }
        }
    }

    fn transaction(&mut self, guards: &[Guard], steps: Vec<Step>, time: LogTime) -> Answer {
        if let Err(why) = check(guards, &steps) {
            return Answer::Malformed(why);
        }
        if let Some(guard) = guards.iter().position(|guard| !self.kv.holds(guard)) {
            return Answer::GuardFailed { guard: guard as u64 };
        }
        self.steps(steps, time)
    }

    fn exec(&mut self, watched: &[Watched], steps: Vec<Step>, time: LogTime) -> Answer {
        if let Err(why) = check_steps(&steps) {
            return Answer::Malformed(why);
        }
        match watched.iter().position(|watched| self.has_changed_since(&watched.key, watched.since)) {
            Some(guard) => Answer::GuardFailed { guard: guard as u64 },
            None => self.steps(steps, time),
        }
    }

    fn steps(&mut self, steps: Vec<Step>, time: LogTime) -> Answer {
        let mut limits = PartLimits { room: MAX_ANSWER_BYTES, work: MAX_TRANSACTION_WORK };
        let answers = steps.into_iter().map(|step| {
            limits.part(self.work_bytes(&step), |room| match step {
                Step::Change(change) => self.change(change, room, time),
                Step::Query(query) => self.answer(&query, room, time),
            })
        });
        Answer::Transaction(answers.collect())
    }

    fn together(&self, queries: &[Bytes], room: usize, time: LogTime) -> Answer {
        let decode = |query: &Bytes| Query::decode(query).map(Step::Query).map_err(|error| error.to_string());
        let steps: Result<Vec<Step>, String> = queries.iter().take(MAX_TRANSACTION_STEPS + 1).map(decode).collect();
        let steps = match steps.and_then(|steps| check(&[], &steps).map(|()| steps)) {
            Ok(steps) => steps,
            Err(why) => return Answer::Malformed(why),
        };
        let mut limits = PartLimits { room, work: MAX_TRANSACTION_WORK };
        let answers = steps.iter().filter_map(|step| match step {
            Step::Query(query) => Some(limits.part(self.work_bytes(step), |room| self.answer(query, room, time))),
            Step::Change(_) => None,
        });
        Answer::Transaction(answers.collect())
    }

    /// Answers a query. A list has at most so many bytes, unless its first item alone has more.
    fn answer(&self, query: &Query, max_bytes: usize, time: LogTime) -> Answer {
        match query {
            Query::List { prefix, after, limit } => {
                let Page { items, more } = self.kv.list(prefix, after.as_deref(), *limit, max_bytes);
                Answer::Items { items, more }
            }
            Query::Scan { pattern: Some(pattern), .. } | Query::Keys { pattern }
                if pattern.len() > MAX_PATTERN_BYTES =>
            {
                Answer::Malformed(format!(
                    "a pattern has at most {MAX_PATTERN_BYTES} bytes, this one {}",
                    pattern.len()
                ))
            }
            Query::Scan { cursor, count, pattern } => {
                let (cursor, keys) = self.kv.scan(&self.queue.listed, *cursor, *count, pattern.as_deref());
                Answer::Keys { cursor, keys }
            }
            Query::Keys { pattern } => match self.keys(pattern) {
                Some(keys) => Answer::Keys { cursor: 0, keys },
                None => Answer::TooLarge,
            },
            Query::State { limit } => self.state(*limit, max_bytes),
            Query::Queue(query) => Answer::Queue(self.queue.answer(query, max_bytes, time)),
            Query::View => self.view().unwrap_or(Answer::TooLarge),
            Query::IsAnswered { key } => Answer::Count(u64::from(self.once.has(key))),
            Query::Together { queries } => self.together(queries, max_bytes, time),
            Query::Index => Answer::Count(self.applied),
            query => self.look_up(query, max_bytes, time),
        }
    }

    /// Everything that clients have stored, if it is not too much.
    fn view(&self) -> Option<Answer> {
        let mut room = MAX_VIEW_BYTES;
        let topics = self.queue.view(&mut room)?;
        let mut items = Vec::new();
        for (key, value) in self.kv.iter() {
            room = room.checked_sub(item_bytes(key, value))?;
            items.push((key.clone(), value.clone()));
        }
        Some(Answer::View { applied: self.applied, topics, items })
    }

    fn state(&self, limit: u64, max_bytes: usize) -> Answer {
        let Page { items, more } = self.kv.list(b"", None, limit, max_bytes);
        Answer::State { applied: self.applied, keys: self.kv.len(), digest: self.digest(), items, more }
    }
}

/// What is left for the parts of a transaction, or for queries together.
struct PartLimits {
    /// Bytes of answers.
    room: usize,
    /// Bytes to go through beyond those.
    work: usize,
}

impl PartLimits {
    /// The answer of one part, which goes through so many bytes, and is run with what room there is.
    fn part(&mut self, work: usize, run: impl FnOnce(usize) -> Answer) -> Bytes {
        let Some(left) = self.work.checked_sub(work) else {
            let why = "the transaction goes through too many bytes; this part had no effect";
            return Answer::Malformed(why.into()).encode();
        };
        let answer = run(self.room);
        let bytes = answer.content_bytes();
        // Messages that are taken are nowhere else: they were chosen so that they fit.
        let is_taken =
            matches!(answer, Answer::Queue(QueueAnswer::Messages(_) | QueueAnswer::Deliveries(_)) | Answer::Popped(_));
        let fits = bytes <= self.room || is_taken;
        (self.room, self.work) = (self.room.saturating_sub(bytes), left);
        if fits { answer.encode() } else { Answer::TooLarge.encode() }
    }
}

/// Whether a transaction is one that may run at all: what it costs must be bounded by its size and its answer's.
fn check(guards: &[Guard], steps: &[Step]) -> Result<(), String> {
    let size = guards.len().saturating_add(steps.len());
    if size > MAX_TRANSACTION_STEPS {
        return Err(format!("a transaction has at most {MAX_TRANSACTION_STEPS} guards and steps, this one {size}"));
    }
    check_steps(steps)
}

fn check_steps(steps: &[Step]) -> Result<(), String> {
    if steps.iter().any(|step| matches!(step, Step::Query(query) if !query.is_bounded())) {
        return Err("KEYS, SCAN, STATE and other queries together cannot be part of a transaction: use LIST".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::consensus::{Index, LogTime};
    use crate::machine::command::{Change, Condition, ExpireCondition, KeyType, Left, Lifetime, MAX_ITEMS, Value};
    use crate::machine::glob;
    use crate::machine::numbers::element_key;
    use crate::machine::queue::command::{QueueChange, QueueQuery};

    fn apply_bytes(machine: &mut Composite, index: u64, command: &Bytes) -> Answer {
        let applied = Applied { index: Index(index), time: LogTime(0), session: None, command, is_awaited: true };
        Answer::decode(&machine.apply(applied)).expect("the machine's answers decode")
    }

    fn apply(machine: &mut Composite, index: u64, command: impl Into<Command>) -> Answer {
        apply_bytes(machine, index, &command.into().encode())
    }

    fn query(machine: &Composite, query: Query) -> Answer {
        Answer::decode(&machine.query(Asked { time: LogTime(0), query: &query.encode() }))
            .expect("the machine's answers decode")
    }

    fn set(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Change {
        Change::Set { key: key.into(), value: value.into(), condition: Condition::Always, want_old: false }
    }

    fn get(key: &'static str) -> Query {
        Query::Get { key: key.into() }
    }

    #[test]
    fn what_may_take_long_is_not_brief() {
        let mut machine = Composite::default();
        let is_brief = |machine: &Composite, command: Command, ms: u64| {
            let (index, command) = (Index(9), command.encode());
            machine.is_brief(Applied { index, time: LogTime(ms), session: None, command: &command, is_awaited: true })
        };
        let take = |max| Change::Queue { topic: "t".into(), change: QueueChange::Take { max } };
        assert!(is_brief(&machine, set("k", "v").into(), 0));
        assert!(is_brief(&machine, take(1).into(), 0));
        let long = [
            set("k", vec![0; BRIEF_BYTES]).into(),
            take(2).into(),
            Change::Delete { keys: vec!["k".into()] }.into(),
            Change::Remove { keys: vec!["k".into()] }.into(),
            Change::Concatenate { key: "k".into(), value: "v".into() }.into(),
            Change::Queue { topic: "t".into(), change: QueueChange::Purge }.into(),
            Command::Transaction { guards: Vec::new(), steps: Vec::new() },
        ];
        for command in long {
            assert!(!is_brief(&machine, command.clone(), 0), "{command}");
        }
        assert!(machine.is_brief_query(&get("k").encode()));
        assert!(!machine.is_brief_query(&Query::Keys { pattern: "*".into() }.encode()));
        assert!(!machine.is_brief_query(b"no query"));

        let (lifetime, condition) = (Lifetime::Milliseconds(100), Condition::Always);
        let expiring = Change::SetExpiring { key: "e".into(), value: "v".into(), condition, want_old: false, lifetime };
        apply(&mut machine, 1, expiring);
        assert!(is_brief(&machine, set("k", "v").into(), 99));
        assert!(!is_brief(&machine, set("k", "v").into(), 100), "another key expires then");
    }

    fn steps(answer: Answer) -> Vec<Answer> {
        match answer {
            Answer::Transaction(steps) => steps.iter().map(|step| Answer::decode(step).unwrap()).collect(),
            other => panic!("not the answer of a transaction: {other:?}"),
        }
    }

    #[test]
    fn the_encoding_is_kept() {
        let hex = |bytes: Bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let command = Command::from(set("k", "v1"));
        let expected = "01 00000000 00000000 0100000000000000 6b 0200000000000000 7631 00000000 00";
        assert_eq!(hex(command.encode()), expected.replace(' ', ""));
        assert_eq!(hex(get("k").encode()), "01 00000000 0100000000000000 6b".replace(' ', ""));
        let answer = Answer::Value(Some(Value { bytes: "v".into(), revision: 7 }));
        assert_eq!(hex(answer.encode()), "01 04000000 01 0100000000000000 76 0700000000000000".replace(' ', ""));
        let transaction = Command::Transaction {
            guards: vec![Guard { key: "g".into(), revision: Some(3) }],
            steps: vec![Step::Query(Query::Size)],
        };
        let expected = "01 01000000 0100000000000000 0100000000000000 67 01 0300000000000000 \
                        0100000000000000 01000000 04000000";
        assert_eq!(hex(transaction.encode()), expected.replace(' ', ""));
        for (change, expected) in [
            (Change::Add { key: "k".into(), delta: -2 }, "04000000 0100000000000000 6b feffffffffffffff"),
            (Change::Raise { key: "k".into(), to: 3 }, "05000000 0100000000000000 6b 0300000000000000"),
            (
                Change::Append { key: "k".into(), value: "v1".into() },
                "06000000 0100000000000000 6b 0200000000000000 7631",
            ),
        ] {
            assert_eq!(hex(Command::from(change).encode()), format!("01 00000000 {expected}").replace(' ', ""));
        }
        for (change, expected) in [
            (
                Change::SetExpiring {
                    key: "k".into(),
                    value: "v1".into(),
                    condition: Condition::Absent,
                    want_old: false,
                    lifetime: Lifetime::Milliseconds(3),
                },
                "07000000 0100000000000000 6b 0200000000000000 7631 01000000 00 01000000 0300000000000000",
            ),
            (
                Change::Expire { key: "k".into(), after_ms: -1, condition: ExpireCondition::Later },
                "08000000 0100000000000000 6b ffffffffffffffff 03000000",
            ),
            (
                Change::Expire { key: "k".into(), after_ms: 10, condition: ExpireCondition::ExpiringEarlier },
                "08000000 0100000000000000 6b 0a00000000000000 05000000",
            ),
            (Change::Persist { key: "k".into() }, "09000000 0100000000000000 6b"),
            (Change::GetDelete { key: "k".into() }, "0a000000 0100000000000000 6b"),
            (
                Change::Concatenate { key: "k".into(), value: "v".into() },
                "0b000000 0100000000000000 6b 0100000000000000 76",
            ),
            (
                Change::SetAll { items: vec![("k".into(), "v".into())], if_absent: true },
                "0c000000 0100000000000000 0100000000000000 6b 0100000000000000 76 01",
            ),
            (Change::Remove { keys: vec!["k".into()] }, "0d000000 0100000000000000 0100000000000000 6b"),
            (
                Change::Push { topic: "k".into(), messages: vec!["v".into()] },
                "0e000000 0100000000000000 6b 0100000000000000 0100000000000000 76",
            ),
            (Change::Pop { topics: vec!["k".into()] }, "0f000000 0100000000000000 0100000000000000 6b"),
        ] {
            assert_eq!(hex(Command::from(change).encode()), format!("01 00000000 {expected}").replace(' ', ""));
        }
        let exec = Command::Exec { watched: vec![Watched { key: "k".into(), since: 5 }], steps: vec![] };
        let expected = "01 04000000 0100000000000000 0100000000000000 6b 0500000000000000 0000000000000000";
        assert_eq!(hex(exec.encode()), expected.replace(' ', ""));
        for (query, expected) in [
            (Query::GetAll { keys: vec!["k".into()] }, "0b000000 0100000000000000 0100000000000000 6b"),
            (Query::Type { key: "k".into() }, "0c000000 0100000000000000 6b"),
            (Query::Left { key: "k".into() }, "0d000000 0100000000000000 6b"),
            (Query::ValueLength { key: "k".into() }, "0e000000 0100000000000000 6b"),
            (Query::ListLength { topic: "k".into() }, "0f000000 0100000000000000 6b"),
            (
                Query::Range { topic: "k".into(), start: 1, stop: -1 },
                "10000000 0100000000000000 6b 0100000000000000 ffffffffffffffff",
            ),
            (Query::Index, "11000000"),
        ] {
            assert_eq!(hex(query.encode()), format!("01 {expected}").replace(' ', ""));
        }
        for (answer, expected) in [
            (Answer::WrongType, "12000000"),
            (Answer::Values(vec![None, Some("v".into())]), "13000000 0200000000000000 00 01 0100000000000000 76"),
            (Answer::Type(KeyType::List), "14000000 02000000"),
            (Answer::Left(Left::Milliseconds(7)), "15000000 02000000 0700000000000000"),
            (Answer::Popped(Some(("k".into(), "v".into()))), "16000000 01 0100000000000000 6b 0100000000000000 76"),
        ] {
            assert_eq!(hex(answer.encode()), format!("01 {expected}").replace(' ', ""));
        }
        let together = Query::Together { queries: vec![Query::Size.encode()] };
        let expected = "01 0a000000 0100000000000000 0500000000000000 01 04000000";
        assert_eq!(hex(together.encode()), expected.replace(' ', ""));
    }

    #[test]
    fn queries_together_see_one_moment_and_are_bounded() {
        let mut machine = Composite::default();
        for (index, value) in ["x", "y"].into_iter().enumerate() {
            apply(&mut machine, index as u64 + 1, Change::Append { key: "log".into(), value: value.into() });
        }
        let together = |queries: Vec<Query>| Query::Together { queries: queries.iter().map(Query::encode).collect() };
        let list = Query::List { prefix: "log".into(), after: Some("log".into()), limit: 9 };
        let answers = steps(query(&machine, together(vec![get("log"), list, get("missing")])));
        let value = |bytes: &'static str, revision| Value { bytes: bytes.into(), revision };
        let items = [0, 1].map(|offset| element_key(b"log", offset)).into_iter();
        let items = items.zip([value("x", 1), value("y", 2)]).collect();
        assert_eq!(
            answers,
            [Answer::Value(Some(value("2", 2))), Answer::Items { items, more: false }, Answer::Value(None)]
        );
        apply(&mut machine, 3, set("big", vec![b'x'; MAX_ANSWER_BYTES - 100]));
        let answers = steps(query(&machine, together(vec![get("big"), get("big")])));
        assert!(matches!(&answers[..], [Answer::Value(Some(_)), Answer::TooLarge]));
        for refused in [Query::View, together(vec![Query::Size]), Query::Keys { pattern: "*".into() }] {
            let answer = query(&machine, together(vec![refused]));
            assert!(matches!(answer, Answer::Malformed(_)), "{answer:?}");
        }
        for queries in [vec![Query::Size.encode(); MAX_TRANSACTION_STEPS + 1], vec!["?".into()]] {
            assert!(matches!(query(&machine, Query::Together { queries }), Answer::Malformed(_)));
        }
    }

    #[test]
    fn garbage_is_malformed_and_changes_nothing() {
        let mut machine = Composite::default();
        apply(&mut machine, 1, set("a", "1"));
        let before = machine.digest();
        let valid = Command::from(set("a", "2")).encode();
        let mut garbage = vec![Bytes::new(), Bytes::from_static(b"\x01"), Bytes::from_static(b"\x02\0\0\0\0")];
        garbage.extend((0..valid.len()).map(|length| valid.slice(..length)));
        garbage.push([&valid[..], b"x"].concat().into());
        garbage.push(get("a").encode());
        for (n, bytes) in garbage.iter().enumerate() {
            let answer = apply_bytes(&mut machine, 2 + n as u64, bytes);
            assert!(matches!(answer, Answer::Malformed(_)), "{bytes:?} gave {answer:?}");
            assert!(machine.describe(bytes).ends_with("bytes that are no command"));
        }
        assert!(matches!(
            Answer::decode(&machine.query(Asked { time: LogTime(0), query: b"\x01\xff" })),
            Ok(Answer::Malformed(_))
        ));
        assert_eq!(machine.digest(), before);
        assert_eq!(query(&machine, get("a")), Answer::Value(Some(Value { bytes: "1".into(), revision: 1 })));
    }

    #[test]
    fn a_transaction_inside_a_transaction_is_malformed() {
        // A step is a u32: 0 a change, whose own u32 cannot be a transaction, however deep the bytes nest.
        let mut bytes = vec![1];
        for _ in 0..100_000 {
            bytes.extend_from_slice(&1u32.to_le_bytes());
            bytes.extend_from_slice(&0u64.to_le_bytes());
            bytes.extend_from_slice(&1u64.to_le_bytes());
            bytes.extend_from_slice(&0u32.to_le_bytes());
        }
        let mut machine = Composite::default();
        assert!(matches!(apply_bytes(&mut machine, 1, &bytes.into()), Answer::Malformed(_)));
    }

    #[test]
    fn a_transaction_is_all_or_nothing() {
        let mut machine = Composite::default();
        apply(&mut machine, 1, set("a", "1"));
        let transaction = |revision| Command::Transaction {
            guards: vec![
                Guard { key: "missing".into(), revision: None },
                Guard { key: "a".into(), revision: Some(revision) },
            ],
            steps: vec![
                Step::Change(set("b", "2")),
                Step::Query(get("b")),
                Step::Change(Change::Delete { keys: vec!["a".into()] }),
                Step::Query(Query::Size),
            ],
        };
        let before = machine.digest();
        assert_eq!(apply(&mut machine, 2, transaction(7)), Answer::GuardFailed { guard: 1 });
        assert_eq!(machine.digest(), before);
        let expected = vec![
            Answer::Set { revision: Some(3), old: None },
            Answer::Value(Some(Value { bytes: "2".into(), revision: 3 })),
            Answer::Count(1),
            Answer::Count(1),
        ];
        assert_eq!(steps(apply(&mut machine, 3, transaction(1))), expected);
        assert_eq!(query(&machine, get("a")), Answer::Value(None));
    }

    #[test]
    fn a_transaction_is_bounded() {
        let mut machine = Composite::default();
        let guards = || vec![Guard { key: "x".into(), revision: None }];
        let unbounded = [
            Query::Keys { pattern: "*".into() },
            Query::Scan { cursor: 0, count: 1, pattern: None },
            Query::State { limit: 1 },
        ];
        for query in unbounded {
            let steps = vec![Step::Change(set("a", "1")), Step::Query(query)];
            let answer = apply(&mut machine, 1, Command::Transaction { guards: guards(), steps });
            assert!(matches!(answer, Answer::Malformed(_)), "{answer:?}");
        }
        let steps = vec![Step::Change(set("a", "1")); MAX_TRANSACTION_STEPS];
        let answer = apply(&mut machine, 2, Command::Transaction { guards: guards(), steps });
        assert!(matches!(answer, Answer::Malformed(_)), "{answer:?}");
        assert_eq!(query(&machine, Query::Size), Answer::Count(0));
    }

    #[test]
    fn steps_whose_answers_do_not_fit_say_so_and_take_effect() {
        let mut machine = Composite::default();
        apply(&mut machine, 1, set("big", vec![b'x'; MAX_ANSWER_BYTES - 100]));
        let replace =
            Change::Set { key: "big".into(), value: "small".into(), condition: Condition::Always, want_old: true };
        let all = vec![Step::Query(get("big")), Step::Change(replace), Step::Query(get("big"))];
        let answers = steps(apply(&mut machine, 2, Command::Transaction { guards: vec![], steps: all }));
        assert!(matches!(&answers[0], Answer::Value(Some(value)) if value.bytes.len() == MAX_ANSWER_BYTES - 100));
        assert_eq!(answers[1], Answer::TooLarge);
        let small = Answer::Value(Some(Value { bytes: "small".into(), revision: 2 }));
        assert_eq!(query(&machine, get("big")), small);
    }

    #[test]
    fn messages_that_are_only_looked_at_must_fit_as_well() {
        let mut machine = Composite::default();
        let put = |message: Vec<u8>| {
            let change = QueueChange::Put { message: message.into(), create: true };
            Change::Queue { topic: "t".into(), change }
        };
        apply(&mut machine, 1, put(vec![b'x'; MAX_ANSWER_BYTES / 2]));
        apply(&mut machine, 2, put(vec![b'y'; MAX_ANSWER_BYTES / 4]));
        let peek = || Query::Queue(QueueQuery::Peek { topic: "t".into(), after: 0, max: 9 });
        let looked = |answers: Vec<Answer>| -> Vec<Option<usize>> {
            let count = |answer| match answer {
                Answer::Queue(QueueAnswer::Peeked { messages, .. }) => Some(messages.len()),
                Answer::TooLarge => None,
                other => panic!("{other:?}"),
            };
            answers.into_iter().map(count).collect()
        };
        let together = Query::Together { queries: vec![peek().encode(); 3] };
        assert_eq!(looked(steps(query(&machine, together))), [Some(2), None, None]);
        let transaction = Command::Transaction { guards: vec![], steps: vec![Step::Query(peek()); 3] };
        assert_eq!(looked(steps(apply(&mut machine, 3, transaction))), [Some(2), None, None]);
    }

    #[test]
    fn state_and_globs_are_bounded() {
        let mut machine = Composite::default();
        for (index, key) in ["a", "b", "c"].into_iter().enumerate() {
            apply(&mut machine, index as u64 + 1, set(key, "1"));
        }
        let Answer::State { applied, keys, digest, items, more } = query(&machine, Query::State { limit: 2 }) else {
            panic!("not a state");
        };
        assert_eq!((applied, keys, digest, items.len(), more), (3, 3, machine.digest(), 2, true));
        let long = Bytes::from(vec![b'*'; MAX_PATTERN_BYTES + 1]);
        assert!(matches!(query(&machine, Query::Keys { pattern: long.clone() }), Answer::Malformed(_)));
        let scan = Query::Scan { cursor: 0, count: 1, pattern: Some(long) };
        assert!(matches!(query(&machine, scan), Answer::Malformed(_)));
    }

    #[test]
    fn what_is_kept_does_not_share_the_commands_memory() {
        let mut machine = Composite::default();
        let frame = bytes::BytesMut::from(&Command::from(set("key", "value")).encode()[..]);
        let payload = frame.freeze();
        apply_bytes(&mut machine, 1, &payload);
        assert!(payload.is_unique(), "the state must not pin the buffer that the command came in");
    }

    #[test]
    fn what_nobody_waits_for_is_not_encoded_but_the_state_is_the_same() {
        let (mut asked, mut other) = (Composite::default(), Composite::default());
        let in_session = Some(SessionSequence { session: 1, sequence: 1 });
        let set_once = Command::Once {
            key: "request".into(),
            request: 7,
            guards: vec![],
            steps: vec![Step::Change(set("b", "2"))],
        };
        let commands = [
            (None, Command::OpenSession, false),
            (None, set("a", "1").into(), false),
            (in_session, set("c", "3").into(), true),
            (None, set_once, true),
        ];
        for (index, (session, command, is_kept)) in (1..).zip(commands) {
            let command = &command.encode();
            let (index, time) = (Index(index), LogTime(0));
            let answer = asked.apply(Applied { index, time, session, command, is_awaited: true });
            let unread = other.apply(Applied { index, time, session, command, is_awaited: false });
            assert_eq!(unread, if is_kept { answer } else { Bytes::new() });
            assert_eq!(asked.digest(), other.digest());
        }
    }

    fn any_key() -> impl Strategy<Value = Bytes> {
        vec(prop::sample::select(b"ab\xff".to_vec()), 0..3).prop_map(Bytes::from)
    }

    fn any_value() -> impl Strategy<Value = Bytes> {
        (0u8..3).prop_map(|n| vec![n].into())
    }

    fn any_condition() -> impl Strategy<Value = Condition> {
        prop_oneof![
            Just(Condition::Always),
            Just(Condition::Absent),
            Just(Condition::Present),
            any_value().prop_map(Condition::Equals)
        ]
    }

    fn any_change() -> impl Strategy<Value = Change> {
        prop_oneof![
            (any_key(), any_value(), any_condition(), any::<bool>())
                .prop_map(|(key, value, condition, want_old)| Change::Set { key, value, condition, want_old }),
            vec(any_key(), 0..4).prop_map(|keys| Change::Delete { keys }),
            (any_key(), any_value(), any_value(), any::<bool>())
                .prop_map(|(key, from, to, create)| Change::CompareAndSet { key, from, to, create }),
        ]
    }

    fn any_query() -> impl Strategy<Value = Query> {
        prop_oneof![
            any_key().prop_map(|key| Query::Get { key }),
            vec(any_key(), 0..4).prop_map(|keys| Query::Exists { keys }),
            (any_key(), prop::option::of(any_key()), 0u64..5).prop_map(|(prefix, after, limit)| Query::List {
                prefix,
                after,
                limit
            }),
            Just(Query::Size),
        ]
    }

    fn any_command() -> impl Strategy<Value = Command> {
        let guard = (any_key(), prop::option::of(1u64..40)).prop_map(|(key, revision)| Guard { key, revision });
        let step = prop_oneof![any_change().prop_map(Step::Change), any_query().prop_map(Step::Query)];
        prop_oneof![
            4 => any_change().prop_map(Command::Change),
            1 => (vec(guard, 0..2), vec(step, 0..4))
                .prop_map(|(guards, steps)| Command::Transaction { guards, steps }),
        ]
    }

    /// The specification, as naive as can be.
    #[derive(Default)]
    struct Model(BTreeMap<Vec<u8>, (Vec<u8>, u64)>);

    impl Model {
        fn value(&self, key: &[u8]) -> Option<Value> {
            self.0.get(key).map(|(bytes, revision)| Value { bytes: bytes.clone().into(), revision: *revision })
        }

        fn put(&mut self, key: &Bytes, value: &Bytes, revision: u64) -> Answer {
            self.0.insert(key.to_vec(), (value.to_vec(), revision));
            Answer::Set { revision: Some(revision), old: None }
        }

        fn change(&mut self, change: &Change, revision: u64) -> Answer {
            match change {
                Change::Set { key, value, condition, want_old } => {
                    let found = self.value(key).map(|value| value.bytes);
                    let holds = match condition {
                        Condition::Always => true,
                        Condition::Absent => found.is_none(),
                        Condition::Present => found.is_some(),
                        Condition::Equals(expected) => found.as_ref() == Some(expected),
                    };
                    if holds {
                        self.put(key, value, revision);
                    }
                    Answer::Set { revision: holds.then_some(revision), old: found.filter(|_| *want_old) }
                }
                Change::Delete { keys } => {
                    Answer::Count(keys.iter().filter(|key| self.0.remove(&key[..]).is_some()).count() as u64)
                }
                Change::CompareAndSet { key, from, to, create } => match self.value(key) {
                    None if !create => Answer::Missing,
                    Some(found) if found.bytes != from => Answer::Different { actual: found.bytes },
                    _ => self.put(key, to, revision),
                },
                other => panic!("not modelled: {other:?}"),
            }
        }

        fn query(&self, query: &Query) -> Answer {
            match query {
                Query::Get { key } => Answer::Value(self.value(key)),
                Query::Exists { keys } => {
                    Answer::Count(keys.iter().filter(|key| self.0.contains_key(&key[..])).count() as u64)
                }
                Query::Size => Answer::Count(self.0.len() as u64),
                Query::List { prefix, after, limit } => {
                    let wanted = |key: &&Vec<u8>| {
                        key.starts_with(prefix) && after.as_ref().is_none_or(|after| key[..] > after[..])
                    };
                    let keys: Vec<_> = self.0.keys().filter(wanted).collect();
                    let items = keys.iter().take(*limit as usize);
                    let items = items.map(|key| (key.to_vec().into(), self.value(key).unwrap())).collect();
                    Answer::Items { items, more: keys.len() as u64 > *limit }
                }
                Query::Keys { pattern } => {
                    let keys = self.0.keys().filter(|key| glob::matches(pattern, key));
                    Answer::Keys { cursor: 0, keys: keys.map(|key| key.clone().into()).collect() }
                }
                other => panic!("not modelled: {other:?}"),
            }
        }

        fn command(&mut self, command: &Command, revision: u64) -> Answer {
            let (guards, steps) = match command {
                Command::Change(change) => return self.change(change, revision),
                Command::Transaction { guards, steps } => (guards, steps),
                other => panic!("not modelled: {other:?}"),
            };
            for (position, guard) in guards.iter().enumerate() {
                if self.value(&guard.key).map(|value| value.revision) != guard.revision {
                    return Answer::GuardFailed { guard: position as u64 };
                }
            }
            let answers = steps.iter().map(|step| match step {
                Step::Change(change) => self.change(change, revision).encode(),
                Step::Query(query) => self.query(query).encode(),
            });
            Answer::Transaction(answers.collect())
        }
    }

    fn plain(command: &Command) -> Option<PlainSet<'_>> {
        match command {
            Command::Change(Change::Set { key, value, condition: Condition::Always, want_old: false }) => {
                Some(PlainSet { key, value })
            }
            _ => None,
        }
    }

    proptest! {
        #[test]
        fn behaves_as_a_plain_map(commands in vec(any_command(), 0..40), queries in vec(any_query(), 0..20)) {
            let (mut machine, mut model) = (Composite::default(), Model::default());
            for (index, command) in (1..).zip(&commands) {
                let encoded = command.encode();
                prop_assert_eq!(Command::decode(&encoded).unwrap(), command.clone());
                prop_assert_eq!(PlainSet::of(&encoded), plain(command));
                prop_assert_eq!(apply(&mut machine, index, command.clone()), model.command(command, index));
            }
            let everything = Query::Keys { pattern: "*".into() };
            for asked in queries.into_iter().chain([everything]) {
                prop_assert_eq!(query(&machine, asked.clone()), model.query(&asked));
            }
            // The digest, kept up step by step, is that of a machine that holds the same from the start.
            let mut fresh = Composite::default();
            for (key, (value, revision)) in &model.0 {
                apply(&mut fresh, *revision, set(key.clone(), value.clone()));
            }
            prop_assert_eq!(machine.stored_digest(), fresh.stored_digest());
            // A scan sees the same keys.
            let (mut cursor, mut seen) = (0, Vec::new());
            loop {
                let scan = Query::Scan { cursor, count: 3, pattern: None };
                let Answer::Keys { cursor: next, keys } = query(&machine, scan) else { panic!("not keys") };
                seen.extend(keys);
                if next == 0 { break }
                cursor = next;
            }
            seen.sort();
            prop_assert_eq!(seen, model.0.keys().cloned().map(Bytes::from).collect::<Vec<_>>());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..64)) {
            let mut machine = Composite::default();
            let command: Bytes = [&[1u8][..], &bytes].concat().into();
            apply_bytes(&mut machine, 1, &command);
            machine.query(Asked { time: LogTime(0), query: &command });
            machine.describe(&command);
        }

        #[test]
        fn no_change_of_one_byte_makes_it_panic(command in any_command(), flip in 1u8..) {
            let valid = command.encode();
            for position in 0..valid.len() {
                let mut bytes = valid.to_vec();
                bytes[position] ^= flip;
                let mut machine = Composite::default();
                apply_bytes(&mut machine, 1, &bytes.clone().into());
                machine.query(Asked { time: LogTime(0), query: &bytes });
                prop_assert!(machine.kv.len() <= MAX_ITEMS);
            }
        }
    }
}
