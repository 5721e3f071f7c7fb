use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::consensus::Index;
use crate::machine::command::{
    Command, Condition, ExpireCondition, Lifetime, MAX_CONCATENATED_BYTES, MAX_ITEMS, MAX_TRANSACTION_WORK, Value,
    Watched,
};
use crate::machine::queue::command::{QueueChange, Settlement, TopicLimits};
use crate::machine::{Applied, Asked, Machine};

/// A machine, and where its log ends.
#[derive(Default)]
struct Bench {
    machine: Composite,
    index: u64,
    time: u64,
}

impl Bench {
    fn run(&mut self, command: impl Into<Command>) -> Answer {
        self.index += 1;
        let command = &command.into().encode();
        let (index, time) = (Index(self.index), LogTime(self.time));
        Answer::decode(&self.machine.apply(Applied { index, time, session: None, command, is_awaited: true })).unwrap()
    }

    fn at(&mut self, time: u64, command: impl Into<Command>) -> Answer {
        self.time = time;
        self.run(command)
    }

    fn tick(&mut self, time: u64) {
        (self.index, self.time) = (self.index + 1, time);
        self.machine.advance(Index(self.index), LogTime(time));
    }

    fn ask(&self, query: Query) -> Answer {
        Answer::decode(&self.machine.query(Asked { time: LogTime(self.time), query: &query.encode() })).unwrap()
    }

    fn get(&self, key: &str) -> Option<String> {
        match self.ask(Query::Get { key: key.to_owned().into() }) {
            Answer::Value(value) => value.map(|value| String::from_utf8_lossy(&value.bytes).into_owned()),
            other => panic!("no value: {other:?}"),
        }
    }

    fn left(&self, key: &'static str) -> Left {
        match self.ask(Query::Left { key: key.into() }) {
            Answer::Left(left) => left,
            other => panic!("not how long it lasts: {other:?}"),
        }
    }

    fn list(&self, name: &'static str) -> String {
        match self.ask(Query::Range { topic: name.into(), start: 0, stop: -1 }) {
            Answer::Queue(QueueAnswer::Messages(messages)) => String::from_utf8(messages.join(&b' ')).unwrap(),
            other => panic!("no list: {other:?}"),
        }
    }
}

fn set(key: &'static str, value: &'static str) -> Change {
    Change::Set { key: key.into(), value: value.into(), condition: Condition::Always, want_old: false }
}

fn set_for(key: &'static str, value: &'static str, lifetime: Lifetime) -> Change {
    let condition = Condition::Always;
    Change::SetExpiring { key: key.into(), value: value.into(), condition, want_old: false, lifetime }
}

fn expire(key: &'static str, after_ms: i64, condition: ExpireCondition) -> Change {
    Change::Expire { key: key.into(), after_ms, condition }
}

fn push(topic: &'static str, messages: &[&'static str]) -> Change {
    Change::Push { topic: topic.into(), messages: messages.iter().map(|message| Bytes::from(*message)).collect() }
}

fn pop(topics: &[&'static str]) -> Change {
    Change::Pop { topics: names(topics) }
}

fn names(names: &[&'static str]) -> Vec<Bytes> {
    names.iter().map(|name| Bytes::from(*name)).collect()
}

fn queue(topic: &'static str, change: QueueChange) -> Change {
    Change::Queue { topic: topic.into(), change }
}

fn popped(topic: &'static str, message: &'static str) -> Answer {
    Answer::Popped(Some((topic.into(), message.into())))
}

const TAKE: QueueChange = QueueChange::Take { max: 1 };
const RECEIVE: QueueChange = QueueChange::Receive { max: 1, lease_ms: 100 };

#[test]
fn a_key_is_there_until_the_log_says_that_its_time_has_come() {
    let mut bench = Bench::default();
    bench.at(100, set_for("k", "v", Lifetime::Milliseconds(50)));
    assert_eq!(bench.machine.deadline(), Some(LogTime(150)));
    bench.tick(149);
    assert_eq!((bench.get("k").as_deref(), bench.left("k")), (Some("v"), Left::Milliseconds(1)));
    // A read's own time does not count: another leader may be behind it.
    bench.time = 160;
    assert_eq!((bench.get("k").as_deref(), bench.left("k")), (Some("v"), Left::Milliseconds(0)));
    // The entry of that time is the first that does not see it.
    let set_if_missing =
        Change::Set { key: "k".into(), value: "w".into(), condition: Condition::Absent, want_old: true };
    let revision = Some(bench.index + 1);
    assert_eq!(bench.at(150, set_if_missing), Answer::Set { revision, old: None });
    assert_eq!((bench.left("k"), bench.machine.deadline()), (Left::Lasting, None));
    assert_eq!(bench.left("none"), Left::Missing);
}

#[test]
fn only_what_sets_a_key_anew_has_it_last() {
    let lasts = |change: Change| {
        let mut bench = Bench::default();
        bench.at(0, set_for("k", "1", Lifetime::Milliseconds(50)));
        bench.run(change);
        bench.left("k") == Left::Lasting
    };
    let key = || Bytes::from("k");
    assert!(lasts(set("k", "2")));
    assert!(lasts(Change::SetAll { items: vec![(key(), "2".into())], if_absent: false }));
    assert!(lasts(Change::CompareAndSet { key: key(), from: "1".into(), to: "2".into(), create: false }));
    assert!(lasts(Change::Persist { key: key() }));
    assert!(!lasts(Change::CompareAndSet { key: key(), from: "x".into(), to: "2".into(), create: false }));
    assert!(!lasts(set_for("k", "2", Lifetime::Kept)));
    assert!(!lasts(Change::Add { key: key(), delta: 1 }));
    assert!(!lasts(Change::Concatenate { key: key(), value: "2".into() }));
    let mut bench = Bench::default();
    bench.run(set_for("k", "1", Lifetime::Kept));
    assert_eq!(bench.left("k"), Left::Lasting);
    // Deleted and made anew, it does not remember.
    bench.run(set_for("k", "1", Lifetime::Milliseconds(50)));
    bench.run(Change::GetDelete { key: key() });
    assert_eq!(bench.machine.deadline(), None);
    bench.run(Change::Add { key: key(), delta: 1 });
    bench.tick(1_000);
    assert_eq!(bench.get("k").as_deref(), Some("1"));
}

#[test]
fn expire_obeys_its_condition() {
    use ExpireCondition::{Always, Earlier, Expiring, ExpiringEarlier, Lasting, Later};
    let mut bench = Bench::default();
    let yes = Answer::Count(1);
    let no = Answer::Count(0);
    assert_eq!(bench.run(expire("k", 100, Always)), no);
    bench.run(set("k", "v"));
    assert_eq!(bench.run(expire("k", 100, Expiring)), no);
    assert_eq!(bench.run(expire("k", 100, Later)), no, "to last is to expire last");
    assert_eq!(bench.run(expire("k", 100, ExpiringEarlier)), no);
    assert_eq!(bench.run(expire("k", 100, Earlier)), yes);
    assert_eq!(bench.run(expire("k", 200, Lasting)), no);
    assert_eq!(bench.run(expire("k", 100, Later)), no);
    assert_eq!(bench.run(expire("k", 100, Earlier)), no);
    assert_eq!(bench.run(expire("k", 200, Later)), yes);
    assert_eq!(bench.run(expire("k", 400, Expiring)), yes);
    assert_eq!(bench.run(expire("k", 400, ExpiringEarlier)), no);
    assert_eq!(bench.run(expire("k", 300, ExpiringEarlier)), yes);
    assert_eq!(bench.left("k"), Left::Milliseconds(300));
    assert_eq!(bench.run(Change::Persist { key: "k".into() }), yes);
    assert_eq!(bench.run(Change::Persist { key: "k".into() }), no);
    assert_eq!(bench.run(expire("k", i64::MAX, Lasting)), yes);
    assert_eq!(bench.left("k"), Left::Milliseconds(i64::MAX as u64));
    assert_eq!(bench.at(10, expire("k", i64::MAX, Always)), yes);
    bench.at(u64::MAX - 5, set_for("end", "", Lifetime::Milliseconds(u64::MAX)));
    assert_eq!(bench.left("end"), Left::Milliseconds(5));
    for after_ms in [0, -1, i64::MIN] {
        bench.run(set("k", "v"));
        assert_eq!(bench.run(expire("k", after_ms, Later)), no);
        assert_eq!(bench.run(expire("k", after_ms, Always)), yes);
        assert_eq!(bench.get("k"), None);
    }
}

#[test]
fn values_are_joined_up_to_a_limit() {
    let mut bench = Bench::default();
    let append = |value: Bytes| Change::Concatenate { key: "k".into(), value };
    assert_eq!(bench.run(append("ab".into())), Answer::Count(2));
    assert_eq!(bench.run(append("cd".into())), Answer::Count(4));
    assert_eq!(bench.get("k").as_deref(), Some("abcd"));
    assert_eq!(bench.ask(Query::ValueLength { key: "k".into() }), Answer::Count(4));
    assert_eq!(bench.run(append(vec![b'x'; MAX_CONCATENATED_BYTES - 4].into())), Answer::Count(4 << 20));
    let digest = bench.machine.stored_digest();
    assert!(matches!(bench.run(append("y".into())), Answer::Malformed(_)));
    assert_eq!(bench.machine.stored_digest(), digest);
}

#[test]
fn several_keys_are_set_and_got_at_once() {
    let mut bench = Bench::default();
    let all = |items: &[(&'static str, &'static str)], if_absent| {
        let items = items.iter().map(|(key, value)| (Bytes::from(*key), Bytes::from(*value))).collect();
        Change::SetAll { items, if_absent }
    };
    assert_eq!(bench.run(all(&[("a", "1"), ("b", "2"), ("a", "3")], true)), Answer::Count(1));
    assert_eq!(bench.run(all(&[("c", "4"), ("b", "5")], true)), Answer::Count(0));
    bench.run(push("q", &["x"]));
    let values = vec![Some("3".into()), None, None, Some("2".into())];
    assert_eq!(bench.ask(Query::GetAll { keys: names(&["a", "c", "q", "b"]) }), Answer::Values(values));
    assert_eq!(bench.run(all(&[("c", "4"), ("q", "5")], false)), Answer::WrongType);
    assert_eq!(bench.get("c"), None, "all or nothing");
    let big = vec![b'x'; MAX_ANSWER_BYTES / 2];
    bench.run(Change::Set { key: "big".into(), value: big.into(), condition: Condition::Always, want_old: false });
    assert_eq!(bench.ask(Query::GetAll { keys: names(&["big", "big"]) }), Answer::TooLarge);
}

#[test]
fn a_list_is_what_nobody_has_leased() {
    let mut bench = Bench::default();
    assert_eq!(bench.run(push("q", &["a", "b", "c"])), Answer::Count(3));
    bench.run(queue("q", RECEIVE));
    assert_eq!(bench.list("q"), "b c");
    assert_eq!(bench.ask(Query::ListLength { topic: "q".into() }), Answer::Count(2));
    assert_eq!(bench.run(push("q", &["d"])), Answer::Count(3));
    assert_eq!(bench.run(pop(&["none", "q"])), popped("q", "b"));
    bench.tick(100);
    assert_eq!(bench.list("q"), "a c d", "the lease has ended");
    let range = |start, stop| match bench.ask(Query::Range { topic: "q".into(), start, stop }) {
        Answer::Queue(QueueAnswer::Messages(messages)) => String::from_utf8(messages.concat()).unwrap(),
        other => panic!("{other:?}"),
    };
    for (start, stop, expected) in [
        (0, 0, "a"),
        (1, 2, "cd"),
        (-2, -1, "cd"),
        (-100, 1, "ac"),
        (2, 100, "d"),
        (3, 5, ""),
        (2, 1, ""),
        (0, -4, ""),
        (i64::MIN, i64::MAX, "acd"),
        (i64::MAX, i64::MIN, ""),
    ] {
        assert_eq!(range(start, stop), expected, "{start} to {stop}");
    }
}

#[test]
fn a_name_is_a_keys_or_a_topics() {
    let mut bench = Bench::default();
    bench.run(set("k", "v"));
    bench.run(push("q", &["x"]));
    let before = bench.machine.stored_digest();
    let on_topic: Vec<Change> = vec![
        set("q", "v"),
        set_for("q", "v", Lifetime::Kept),
        Change::CompareAndSet { key: "q".into(), from: "".into(), to: "".into(), create: true },
        Change::Add { key: "q".into(), delta: 1 },
        Change::Raise { key: "q".into(), to: 1 },
        Change::Append { key: "q".into(), value: "".into() },
        Change::Concatenate { key: "q".into(), value: "".into() },
        Change::GetDelete { key: "q".into() },
    ];
    let limits = TopicLimits::default();
    let put = |create| QueueChange::Put { message: "m".into(), create };
    let on_key = vec![
        push("k", &["x"]),
        pop(&["none", "k", "q"]),
        queue("k", QueueChange::Create { limits }),
        queue("k", put(true)),
        queue("k", put(false)),
        queue("k", TAKE),
        queue("k", RECEIVE),
    ];
    for change in on_topic.into_iter().chain(on_key) {
        assert_eq!(bench.run(change.clone()), Answer::WrongType, "{change}");
    }
    assert!(matches!(bench.run(expire("q", 5, ExpireCondition::Always)), Answer::Malformed(_)));
    assert_eq!(bench.run(Change::Persist { key: "q".into() }), Answer::Count(0));
    assert_eq!(bench.run(Change::Delete { keys: names(&["q"]) }), Answer::Count(0), "it deletes keys");
    assert_eq!(bench.machine.stored_digest(), before);
    for query in [
        Query::Get { key: "q".into() },
        Query::ValueLength { key: "q".into() },
        Query::ListLength { topic: "k".into() },
        Query::Range { topic: "k".into(), start: 0, stop: 1 },
    ] {
        assert_eq!(bench.ask(query.clone()), Answer::WrongType, "{query}");
    }
}

#[test]
fn lists_are_seen_among_the_keys_while_there_is_something_in_them() {
    let mut bench = Bench::default();
    let seen = |bench: &Bench| {
        let keys = match bench.ask(Query::Keys { pattern: "*".into() }) {
            Answer::Keys { keys, .. } => keys,
            other => panic!("no keys: {other:?}"),
        };
        let Answer::Keys { cursor: 0, keys: mut scanned } =
            bench.ask(Query::Scan { cursor: 0, count: 100, pattern: None })
        else {
            panic!("no page");
        };
        scanned.sort();
        assert_eq!(scanned, keys);
        assert_eq!(bench.ask(Query::Size), Answer::Count(keys.len() as u64));
        assert_eq!(bench.ask(Query::Exists { keys: names(&["k", "m", "q"]) }), Answer::Count(keys.len() as u64));
        String::from_utf8(keys.join(&b' ')).unwrap()
    };
    bench.run(set("k", "v"));
    bench.run(push("m", &["x"]));
    bench.run(push("q", &["x"]));
    assert_eq!(seen(&bench), "k m q");
    bench.run(pop(&["m"]));
    bench.run(queue("q", RECEIVE));
    assert_eq!(seen(&bench), "k");
    assert_eq!(bench.get("m"), None);
    assert_eq!(bench.ask(Query::Type { key: "m".into() }), Answer::Type(KeyType::Missing));
    assert_eq!(bench.run(set("m", "v")), Answer::WrongType, "the topic is still there");
    bench.tick(100);
    assert_eq!(seen(&bench), "k q", "the lease has ended");
    assert_eq!(bench.ask(Query::Type { key: "q".into() }), Answer::Type(KeyType::List));
    assert_eq!(bench.ask(Query::Type { key: "k".into() }), Answer::Type(KeyType::String));
    // A name that was not seen is not counted; but it is gone.
    let remove = Change::Remove { keys: names(&["k", "m", "q", "q", "none"]) };
    assert_eq!(bench.run(remove), Answer::Count(2));
    assert_eq!((seen(&bench).as_str(), bench.machine.stored_digest()), ("", 0));
    assert!(matches!(bench.run(set("m", "v")), Answer::Set { revision: Some(_), .. }));
}

#[test]
fn keys_that_exceed_an_answer_are_refused() {
    let mut bench = Bench::default();
    let long = "x".repeat(MAX_ANSWER_BYTES / 4);
    for n in 0..4 {
        let key = format!("{n}{long}").into();
        bench.run(Change::Set { key, value: "".into(), condition: Condition::Always, want_old: false });
    }
    assert_eq!(bench.ask(Query::Keys { pattern: "*".into() }), Answer::TooLarge);
    let Answer::Keys { keys, .. } = bench.ask(Query::Keys { pattern: "[0-2]*".into() }) else { panic!("no keys") };
    assert_eq!(keys.len(), 3);
    let Answer::Keys { cursor, keys } = bench.ask(Query::Scan { cursor: 0, count: MAX_ITEMS, pattern: None }) else {
        panic!("no page");
    };
    assert_eq!((cursor, keys.len()), (0, 4), "the page was full only with the last key");
}

#[test]
fn a_topic_of_the_dead_may_share_its_name_with_a_key() {
    let mut bench = Bench::default();
    bench.run(set("q.dead", "v"));
    bench.run(queue("q", QueueChange::Create { limits: TopicLimits { deliveries: 1, ..TopicLimits::default() } }));
    bench.run(push("q", &["x"]));
    bench.run(queue("q", RECEIVE));
    bench.tick(100);
    assert_eq!(bench.get("q.dead").as_deref(), Some("v"));
    assert!(matches!(bench.run(set("q.dead", "w")), Answer::Set { revision: Some(_), .. }));
    assert_eq!(bench.run(pop(&["q.dead"])), popped("q.dead", "x"));
    assert_eq!(bench.run(Change::Remove { keys: names(&["q.dead"]) }), Answer::Count(1));
    assert_eq!(bench.ask(Query::Size), Answer::Count(0));
}

#[test]
fn a_push_is_all_or_nothing() {
    let mut bench = Bench::default();
    let limits = TopicLimits { messages: 2, ..TopicLimits::default() };
    bench.run(queue("q", QueueChange::Create { limits: limits.clone() }));
    assert_eq!(bench.run(push("q", &["a", "b", "c"])), Answer::Queue(QueueAnswer::Full { limits }));
    assert_eq!(bench.run(push("q", &["a", "b"])), Answer::Count(2));
    let name = Bytes::from(vec![b'x'; 1025]);
    let too_long = Change::Push { topic: name, messages: vec!["x".into()] };
    assert!(matches!(bench.run(too_long), Answer::Malformed(_)));
    assert_eq!(bench.machine.take_woken(), [("q".into(), 2)]);
}

#[test]
fn a_transaction_on_what_changed_has_no_effect() {
    let mut bench = Bench::default();
    let exec = |bench: &mut Bench, keys: &[&'static str], since: u64| {
        let watched = keys.iter().map(|key| Watched { key: (*key).into(), since }).collect();
        let steps = vec![Step::Change(set("done", "1")), Step::Query(Query::Get { key: "done".into() })];
        matches!(bench.run(Command::Exec { watched, steps }), Answer::Transaction(_))
    };
    bench.run(set("k", "v"));
    let since = bench.index;
    assert!(exec(&mut bench, &["k", "none"], since));
    // Absent, set, absent.
    bench.run(set("none", "v"));
    assert!(!exec(&mut bench, &["k", "none"], since));
    bench.run(Change::Delete { keys: names(&["none"]) });
    assert!(!exec(&mut bench, &["none"], since));
    assert!(exec(&mut bench, &["k"], since));
    // What becomes of a list.
    for change in [push("q", &["x", "y"]), pop(&["q"]), queue("q", TAKE), push("q", &["z"]), queue("q", RECEIVE)] {
        let since = bench.index;
        assert!(exec(&mut bench, &["q"], since));
        bench.run(change.clone());
        assert!(!exec(&mut bench, &["q"], since), "{change}");
    }
    let since = bench.index;
    bench.tick(100);
    assert!(!exec(&mut bench, &["q"], since), "its message is there again");
    let since = bench.index;
    bench.run(pop(&["nothing"]));
    bench.run(queue("nothing", TAKE));
    assert!(exec(&mut bench, &["nothing"], since));
    // A key that expires.
    bench.run(set_for("k", "v", Lifetime::Milliseconds(10)));
    let since = bench.index;
    assert!(exec(&mut bench, &["k"], since));
    bench.tick(110);
    assert!(!exec(&mut bench, &["k"], since));
}

#[test]
fn whoever_watches_the_dead_learns_of_every_death() {
    let mut bench = Bench::default();
    let is_same = |bench: &mut Bench, key: &'static str, since: u64| {
        let watched = vec![Watched { key: key.into(), since }];
        matches!(bench.run(Command::Exec { watched, steps: vec![] }), Answer::Transaction(_))
    };
    let limits = TopicLimits { deliveries: 1, ..TopicLimits::default() };
    bench.run(queue("q", QueueChange::Create { limits }));
    bench.run(push("q", &["a", "b", "c"]));
    let lease = |bench: &mut Bench| match bench.run(queue("q", RECEIVE)) {
        Answer::Queue(QueueAnswer::Deliveries(leased)) => (leased[0].id, leased[0].lease),
        other => panic!("{other:?}"),
    };
    let (id, token) = lease(&mut bench);
    let since = bench.index;
    bench.run(queue("q", QueueChange::Settle { id, lease: token, how: Settlement::Nack }));
    assert_eq!(bench.list("q.dead"), "a");
    assert!(!is_same(&mut bench, "q.dead", since), "it died by NACK");
    assert!(!is_same(&mut bench, "q", since));
    lease(&mut bench);
    let since = bench.index;
    bench.tick(100);
    assert_eq!(bench.list("q.dead"), "a b");
    assert!(!is_same(&mut bench, "q.dead", since), "its lease has ended");
    assert!(!is_same(&mut bench, "q", since), "it has left its topic");
    // The same for a name that is a key's as well.
    bench.run(queue("q.dead", QueueChange::Delete));
    bench.run(set("q.dead", "v"));
    let since = bench.index;
    assert!(is_same(&mut bench, "q.dead", since));
    lease(&mut bench);
    bench.tick(200);
    assert_eq!((bench.list("q.dead").as_str(), bench.get("q.dead").as_deref()), ("c", Some("v")));
    assert!(!is_same(&mut bench, "q.dead", since), "there is a list now");
    let since = bench.index;
    bench.run(queue("q.dead", QueueChange::Delete));
    assert!(!is_same(&mut bench, "q.dead", since), "there is none any more");
    // Nothing has happened to what was not there, and nothing to a topic of which nothing was taken.
    let since = bench.index;
    bench.run(queue("q", RECEIVE));
    bench.run(queue("q", TAKE));
    bench.run(queue("q", QueueChange::Purge));
    bench.run(queue("other", QueueChange::Delete));
    assert!(is_same(&mut bench, "q", since) && is_same(&mut bench, "other", since));
}

#[test]
fn the_steps_of_a_transaction_see_each_other_and_fail_alone() {
    let mut bench = Bench::default();
    let steps = vec![
        Step::Change(set("k", "x")),
        Step::Change(Change::Add { key: "k".into(), delta: 1 }),
        Step::Change(push("k", &["x"])),
        Step::Change(push("q", &["m"])),
        Step::Change(pop(&["q"])),
        Step::Query(Query::ValueLength { key: "k".into() }),
    ];
    let Answer::Transaction(answers) = bench.run(Command::Exec { watched: vec![], steps }) else {
        panic!("it runs");
    };
    let answers: Vec<Answer> = answers.iter().map(|answer| Answer::decode(answer).unwrap()).collect();
    let why = "value is not an integer or out of range";
    let expected = vec![
        Answer::Set { revision: Some(1), old: None },
        Answer::Malformed(why.into()),
        Answer::WrongType,
        Answer::Count(1),
        popped("q", "m"),
        Answer::Count(1),
    ];
    assert_eq!(answers, expected);
    let unbounded = vec![Step::Change(set("k", "y")), Step::Query(Query::Keys { pattern: "*".into() })];
    assert!(matches!(bench.run(Command::Exec { watched: vec![], steps: unbounded }), Answer::Malformed(_)));
    assert_eq!(bench.get("k").as_deref(), Some("x"));
}

#[test]
fn what_has_no_room_in_a_transactions_answer_is_not_taken_and_not_called_empty() {
    let mut bench = Bench::default();
    let half = || Bytes::from(vec![b'x'; MAX_ANSWER_BYTES / 2]);
    bench.run(Change::Push { topic: "q".into(), messages: vec![half(), half(), "small".into()] });
    let steps = [pop(&["q"]), pop(&["none", "q"]), queue("q", TAKE), queue("q", RECEIVE), pop(&["none"])];
    let steps = steps.into_iter().map(Step::Change).collect();
    let Answer::Transaction(answers) = bench.run(Command::Exec { watched: vec![], steps }) else { panic!("it runs") };
    let answers: Vec<Answer> = answers.iter().map(|answer| Answer::decode(answer).unwrap()).collect();
    assert!(matches!(&answers[0], Answer::Popped(Some((_, message))) if message.len() == MAX_ANSWER_BYTES / 2));
    assert_eq!(answers[1..], [Answer::TooLarge, Answer::TooLarge, Answer::TooLarge, Answer::Popped(None)]);
    assert_eq!(bench.ask(Query::ListLength { topic: "q".into() }), Answer::Count(2));
}

#[test]
fn a_transaction_has_many_steps_but_not_endless_work() {
    let mut bench = Bench::default();
    let steps = vec![Step::Change(Change::Add { key: "n".into(), delta: 1 }); 100_000];
    let Answer::Transaction(answers) = bench.run(Command::Exec { watched: vec![], steps }) else { panic!("it runs") };
    assert_eq!((answers.len(), bench.get("n").as_deref()), (100_000, Some("100000")));

    let long = Change::Concatenate { key: "k".into(), value: vec![b'x'; 1 << 20].into() };
    bench.run(long);
    let append = Step::Change(Change::Concatenate { key: "k".into(), value: "y".into() });
    let Answer::Transaction(answers) = bench.run(Command::Exec { watched: vec![], steps: vec![append; 1_000] }) else {
        panic!("it runs");
    };
    let done = answers.iter().filter(|answer| matches!(Answer::decode(answer), Ok(Answer::Count(_)))).count();
    assert_eq!(done, MAX_TRANSACTION_WORK / ((1 << 20) + done / 2));
    let length = Answer::Count((1 << 20) + done as u64);
    assert_eq!(bench.ask(Query::ValueLength { key: "k".into() }), length);

    bench.run(Change::Push { topic: "q".into(), messages: vec!["m".into(); 10_000] });
    let middle = Query::Range { topic: "q".into(), start: 4_999, stop: 4_999 };
    let steps = vec![Step::Query(middle.clone()); 400];
    let Answer::Transaction(answers) = bench.run(Command::Exec { watched: vec![], steps }) else { panic!("it runs") };
    let done = answers.iter().filter(|answer| matches!(Answer::decode(answer), Ok(Answer::Queue(_)))).count();
    assert_eq!(done, MAX_TRANSACTION_WORK / (4_999 * SKIPPED_BYTES));
    let answers = match bench.ask(Query::Together { queries: vec![middle.encode(); 400] }) {
        Answer::Transaction(answers) => answers,
        other => panic!("{other:?}"),
    };
    let together = answers.iter().filter(|answer| matches!(Answer::decode(answer), Ok(Answer::Queue(_)))).count();
    assert_eq!(together, done);
    // The last one is as near as the first.
    let last = Step::Query(Query::Range { topic: "q".into(), start: -1, stop: -1 });
    assert_eq!(bench.machine.work_bytes(&last), 0);
}

const NAMES: [&str; 4] = ["a", "b", "c", "a.dead"];

fn any_change() -> impl Strategy<Value = Change> {
    let name = || prop::sample::select(NAMES.to_vec());
    let value = || prop::sample::select(vec!["", "1", "x"]);
    let limits = TopicLimits { deliveries: 1, ..TopicLimits::default() };
    prop_oneof![
        (name(), value()).prop_map(|(name, value)| set(name, value)),
        (name(), value(), 0u64..30).prop_map(|(name, value, ms)| set_for(name, value, Lifetime::Milliseconds(ms))),
        (name(), value()).prop_map(|(name, value)| set_for(name, value, Lifetime::Kept)),
        (name(), -1i64..30).prop_map(|(name, ms)| expire(name, ms, ExpireCondition::Always)),
        name().prop_map(|name| Change::Persist { key: name.into() }),
        name().prop_map(|name| Change::GetDelete { key: name.into() }),
        (name(), name()).prop_map(|(one, other)| Change::Remove { keys: names(&[one, other]) }),
        name().prop_map(|name| Change::Delete { keys: names(&[name]) }),
        name().prop_map(|name| Change::Add { key: name.into(), delta: 1 }),
        (name(), value()).prop_map(|(name, value)| Change::Concatenate { key: name.into(), value: value.into() }),
        (name(), value())
            .prop_map(|(name, value)| Change::SetAll { items: vec![(name.into(), value.into())], if_absent: true }),
        (name(), value()).prop_map(|(name, value)| push(name, &[value, "2"])),
        (name(), name()).prop_map(|(one, other)| pop(&[one, other])),
        name().prop_map(|name| queue(name, TAKE)),
        name().prop_map(|name| queue(name, QueueChange::Receive { max: 1, lease_ms: 10 })),
        name().prop_map(move |name| queue(name, QueueChange::Create { limits: limits.clone() })),
        name().prop_map(|name| queue(name, QueueChange::Purge)),
        name().prop_map(|name| queue(name, QueueChange::Delete)),
        (name(), 1u64..4, 1u64..40)
            .prop_map(|(name, id, lease)| { queue(name, QueueChange::Settle { id, lease, how: Settlement::Nack }) }),
    ]
}

/// All that a Redis client can see of a name.
fn view(bench: &Bench, name: &'static str) -> (Answer, Answer, Option<LogTime>) {
    let value = match bench.ask(Query::Get { key: name.into() }) {
        Answer::Value(Some(Value { bytes, .. })) => Answer::Values(vec![Some(bytes)]),
        other => other,
    };
    let list = bench.ask(Query::Range { topic: name.into(), start: 0, stop: -1 });
    (value, list, bench.machine.kv.expiries.get(name.as_bytes()))
}

proptest! {
    #[test]
    fn no_change_is_missed_and_a_snapshot_goes_on_the_same(
        changes in vec((any_change(), 0u64..10), 1..40),
        cut in 0usize..40,
    ) {
        let mut bench = Bench::default();
        let mut views = vec![NAMES.map(|name| view(&bench, name))];
        let mut copy: Option<Bench> = None;
        for (number, (change, pause)) in changes.into_iter().enumerate() {
            if number == cut {
                let mut image = Vec::new();
                bench.machine.snapshot().unwrap().write(&mut image).unwrap();
                let mut machine = Composite::default();
                machine.restore(&mut &image[..]).unwrap();
                copy = Some(Bench { machine, index: bench.index, time: bench.time });
            }
            let time = bench.time + pause;
            let answer = bench.at(time, change.clone());
            if let Some(copy) = &mut copy {
                prop_assert_eq!(copy.at(time, change), answer);
                prop_assert_eq!(copy.machine.digest(), bench.machine.digest());
                prop_assert_eq!(copy.machine.deadline(), bench.machine.deadline());
                for query in [
                    Query::Keys { pattern: "*".into() },
                    Query::Scan { cursor: 0, count: 100, pattern: None },
                    Query::Size,
                ] {
                    prop_assert_eq!(copy.ask(query.clone()), bench.ask(query));
                }
            }
            views.push(NAMES.map(|name| view(&bench, name)));
            for (position, name) in NAMES.into_iter().enumerate() {
                let now = &views[views.len() - 1][position];
                let changed = views.iter().rposition(|view| view[position] != *now).map_or(0, |last| last + 1);
                for since in 0..changed {
                    let is_known = bench.machine.has_changed_since(name.as_bytes(), since as u64);
                    prop_assert!(is_known, "{} changed as entry {}, after {}", name, changed, since);
                }
                let is_changed = bench.machine.has_changed_since(name.as_bytes(), bench.index);
                prop_assert!(!is_changed, "nothing has changed since the last entry");
            }
        }
    }
}
