use super::command::*;
use super::*;

const SECOND: u64 = 1000;

fn queue() -> Queue {
    Queue::new(2, 3)
}

struct Bench {
    queue: Queue,
    index: u64,
    time: LogTime,
}

impl Bench {
    fn new() -> Self {
        Bench { queue: queue(), index: 0, time: LogTime(5) }
    }

    fn with(limits: TopicLimits) -> Self {
        let mut bench = Bench::new();
        assert_eq!(bench.apply("t", QueueChange::Create { limits }), Answer::Count(1));
        bench
    }

    fn apply(&mut self, topic: &'static str, change: QueueChange) -> Answer {
        self.index += 1;
        self.queue.expire(Index(self.index), self.time);
        let at = At { index: self.index, time: self.time, room: MAX_ANSWER_BYTES };
        let answer = self.queue.apply(&topic.into(), change, at);
        self.check();
        answer
    }

    /// Whatever happened: it is what its tables say, and nothing else.
    fn check(&self) {
        let (topics, messages) = self.queue.tables();
        let again = Queue::of(topics, messages, &Table::new(9)).expect("the tables agree");
        let keys = |map: &CowMap<()>| map.range(Bound::Unbounded).map(|(key, ())| key.clone()).collect::<Vec<_>>();
        assert_eq!(keys(&again.ready), keys(&self.queue.ready));
        assert_eq!(again.leases, self.queue.leases);
        assert_eq!(again.digest(), self.queue.digest());
        assert_eq!(again.names.len(), self.queue.names.len());
    }

    fn ask(&self, query: QueueQuery) -> QueueAnswer {
        self.queue.answer(&query, MAX_ANSWER_BYTES, self.time)
    }

    fn put(&mut self, topic: &'static str, message: &'static str) -> u64 {
        match self.apply(topic, QueueChange::Put { message: message.into(), create: true }) {
            Answer::Queue(QueueAnswer::Put { id }) => id,
            other => panic!("{other:?}"),
        }
    }

    fn put_all(&mut self, topic: &'static str, messages: &'static str) {
        for message in messages.split(' ') {
            self.put(topic, message);
        }
    }

    fn take(&mut self, topic: &'static str, max: u64) -> String {
        match self.apply(topic, QueueChange::Take { max }) {
            Answer::Queue(QueueAnswer::Messages(messages)) => join(messages.iter()),
            other => panic!("{other:?}"),
        }
    }

    fn receive(&mut self, topic: &'static str, max: u64) -> Vec<Delivery> {
        match self.apply(topic, QueueChange::Receive { max, lease_ms: SECOND }) {
            Answer::Queue(QueueAnswer::Deliveries(deliveries)) => deliveries,
            other => panic!("{other:?}"),
        }
    }

    fn settle(&mut self, delivery: &Delivery, how: Settlement) -> QueueAnswer {
        match self.apply("t", QueueChange::Settle { id: delivery.id, lease: delivery.lease, how }) {
            Answer::Queue(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    fn later(&mut self, ms: u64) {
        self.time.0 += ms;
        self.queue.expire(Index(self.index), self.time);
        self.check();
    }

    fn topics(&self) -> String {
        let view = self.queue.view(&mut usize::MAX.clone()).expect("there is room");
        let topics = view.iter().map(|(name, messages)| format!("{}: {}", text(name), join(messages.iter())));
        topics.collect::<Vec<_>>().join("; ")
    }
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn join<'a>(messages: impl Iterator<Item = &'a Bytes>) -> String {
    messages.map(text).collect::<Vec<_>>().join(" ")
}

fn words(deliveries: &[Delivery]) -> String {
    join(deliveries.iter().map(|delivery| &delivery.message))
}

#[test]
fn first_in_first_out() {
    let mut bench = Bench::new();
    assert_eq!((bench.put("t", "a"), bench.put("t", "b"), bench.put("u", "x"), bench.put("t", "c")), (1, 2, 1, 3));
    assert_eq!(bench.topics(), "t: a b c; u: x");
    assert_eq!(bench.take("t", 1), "a");
    assert_eq!(bench.take("t", 5), "b c");
    assert_eq!(bench.take("t", 5), "");
    assert_eq!(bench.take("u", 5), "x");
}

#[test]
fn a_topic_must_exist_and_is_created_once() {
    let mut bench = Bench::new();
    let no_topic = Answer::Queue(QueueAnswer::NoTopic);
    assert_eq!(bench.apply("t", QueueChange::Put { message: "a".into(), create: false }), no_topic);
    assert_eq!(bench.apply("t", QueueChange::Take { max: 1 }), no_topic);
    assert_eq!(bench.apply("t", QueueChange::Purge), no_topic);
    assert_eq!(bench.apply("t", QueueChange::Delete), Answer::Count(0));
    let limits = TopicLimits::default();
    assert_eq!(bench.apply("t", QueueChange::Create { limits: limits.clone() }), Answer::Count(1));
    assert_eq!(bench.apply("t", QueueChange::Create { limits }), Answer::Count(0));
    bench.put("t", "a");
    bench.receive("t", 1);
    bench.put("t", "b");
    assert_eq!(bench.apply("t", QueueChange::Purge), Answer::Count(2));
    assert_eq!(bench.topics(), "t: ");
    assert_eq!(bench.apply("t", QueueChange::Delete), Answer::Count(1));
    assert_eq!((bench.topics().as_str(), bench.queue.digest()), ("", 0));
}

#[test]
fn a_topic_goes_with_all_its_messages_and_nothing_else() {
    let mut bench = Bench::new();
    for round in 0..3 {
        for topic in ["before", "t", "z"] {
            let at = At { index: bench.index, time: bench.time, room: MAX_ANSWER_BYTES };
            let messages = (0..1_000).map(|n| Bytes::from(n.to_string())).collect();
            assert!(matches!(bench.queue.push(&topic.into(), messages, at), Answer::Count(_)));
            bench.receive(topic, 100);
        }
        bench.later(1);
        let others = |bench: &Bench| ["before", "z"].map(|topic| bench.queue.ready(topic.as_bytes()));
        let (seen, leases) = (others(&bench), bench.queue.leases.len());
        let change = if round == 1 { QueueChange::Delete } else { QueueChange::Purge };
        let count = if round == 1 { 1 } else { 1_000 };
        assert_eq!(bench.apply("t", change), Answer::Count(count));
        assert_eq!((others(&bench), bench.queue.leases.len()), (seen, leases - 100));
        assert_eq!(bench.queue.ready(b"t"), 0);
    }
}

#[test]
fn topics_are_listed_in_the_order_of_their_creation() {
    let mut bench = Bench::new();
    for name in ["z", "a", "m"] {
        bench.put(name, "x");
    }
    bench.apply("a", QueueChange::Delete);
    bench.put("a", "x");
    let page = |after, limit| match bench.ask(QueueQuery::Topics { after, limit }) {
        QueueAnswer::Topics { topics, more } => (topics, more),
        other => panic!("{other:?}"),
    };
    let (topics, more) = page(0, 2);
    assert_eq!((topics.clone(), more), (vec![(1, "z".into()), (3, "m".into())], true));
    assert_eq!(page(topics[1].0, 2), (vec![(5, "a".into())], false));
}

#[test]
fn a_leased_message_is_nobody_elses_until_it_is_settled() {
    let mut bench = Bench::new();
    bench.put_all("t", "a b c");
    let first = bench.receive("t", 2);
    assert_eq!(words(&first), "a b");
    assert_eq!(words(&bench.receive("t", 9)), "c");
    assert_eq!(bench.take("t", 9), "");
    assert_eq!(bench.settle(&first[0], Settlement::Ack), QueueAnswer::Settled);
    assert_eq!(bench.settle(&first[0], Settlement::Ack), QueueAnswer::LeaseLost);
    assert_eq!(bench.settle(&first[1], Settlement::Nack), QueueAnswer::Settled);
    assert_eq!(bench.settle(&first[1], Settlement::Ack), QueueAnswer::LeaseLost);
    let again = bench.receive("t", 9);
    assert_eq!((words(&again).as_str(), again[0].deliveries), ("b", 2));
    assert_ne!(again[0].lease, first[1].lease);
    assert_eq!(bench.settle(&first[1], Settlement::Nack), QueueAnswer::LeaseLost, "a stale lease");
    assert_eq!(bench.settle(&again[0], Settlement::Ack), QueueAnswer::Settled);
    assert_eq!(bench.topics(), "t: c");
}

#[test]
fn an_expired_lease_gives_the_message_back_to_its_place() {
    let mut bench = Bench::new();
    bench.put_all("t", "a b c");
    let first = bench.receive("t", 2);
    assert_eq!(bench.queue.deadline(), Some(LogTime(5 + SECOND)));
    bench.later(SECOND - 1);
    assert_eq!(bench.settle(&first[1], Settlement::Extend { lease_ms: 5 * SECOND }), QueueAnswer::Settled);
    bench.queue.take_woken();
    bench.later(1);
    assert_eq!(bench.queue.take_woken(), [("t".into(), 1)]);
    assert_eq!(bench.take("t", 9), "a c", "the order stays");
    assert_eq!(bench.settle(&first[0], Settlement::Ack), QueueAnswer::LeaseLost);
    assert_eq!(bench.queue.deadline(), Some(LogTime(4 + 6 * SECOND)));
    bench.later(5 * SECOND - 1);
    assert_eq!((bench.take("t", 9).as_str(), bench.queue.deadline()), ("b", None));
}

#[test]
fn a_message_that_was_delivered_too_often_is_dead() {
    let mut bench = Bench::with(TopicLimits { deliveries: 2, ..TopicLimits::default() });
    bench.put_all("t", "a b");
    let first = bench.receive("t", 1);
    bench.settle(&first[0], Settlement::Nack);
    assert_eq!(words(&bench.receive("t", 1)), "a");
    bench.later(SECOND);
    assert_eq!(bench.topics(), "t: b; t.dead: a");
    for _ in 0..9 {
        assert_eq!(words(&bench.receive("t.dead", 1)), "a", "there is nothing after death");
        bench.later(SECOND);
    }
    assert_eq!(bench.topics(), "t: b; t.dead: a");
}

#[test]
fn the_dead_of_a_topic_with_the_longest_name_can_be_taken() {
    let name: &'static str = Box::leak("x".repeat(MAX_TOPIC_BYTES).into_boxed_str());
    let dead: &'static str = Box::leak(format!("{name}.dead").into_boxed_str());
    let mut bench = Bench::new();
    bench.apply(name, QueueChange::Create { limits: TopicLimits { deliveries: 1, ..TopicLimits::default() } });
    bench.put(name, "a");
    bench.receive(name, 1);
    bench.later(SECOND);
    assert_eq!(bench.take(dead, 1), "a");
    assert_eq!(bench.apply(dead, QueueChange::Delete), Answer::Count(1));
    let again = bench.apply(dead, QueueChange::Put { message: "b".into(), create: true });
    assert!(matches!(again, Answer::Malformed(_)), "no client creates such a one: {again:?}");
}

#[test]
fn a_full_topic_refuses_but_never_loses() {
    let limits = TopicLimits { messages: 2, bytes: 5, deliveries: 0 };
    let mut bench = Bench::with(limits.clone());
    let full = Answer::Queue(QueueAnswer::Full { limits });
    let put = |message: &'static str| QueueChange::Put { message: message.into(), create: false };
    assert_eq!(bench.apply("t", put("123456")), full);
    bench.put("t", "123");
    assert_eq!(bench.apply("t", put("123")), full);
    bench.put("t", "");
    assert_eq!(bench.apply("t", put("")), full);
    let leased = bench.receive("t", 2);
    assert_eq!(bench.apply("t", put("")), full, "what is leased is still there");
    bench.settle(&leased[0], Settlement::Ack);
    bench.put("t", "12345");
    bench.later(SECOND);
    assert_eq!(bench.take("t", 9), " 12345");
}

#[test]
fn how_a_topic_is() {
    let mut bench = Bench::new();
    let info = |bench: &Bench| match bench.ask(QueueQuery::Info { topic: "t".into() }) {
        QueueAnswer::Info(info) => (info.messages, info.leased, info.bytes, info.oldest_ms),
        other => panic!("{other:?}"),
    };
    bench.put("t", "abc");
    bench.later(70);
    bench.put("t", "de");
    bench.receive("t", 1);
    assert_eq!(info(&bench), (2, 1, 5, Some(70)));
    bench.apply("t", QueueChange::Purge);
    assert_eq!(info(&bench), (0, 0, 0, None));
}

#[test]
fn answers_are_bounded_but_take_at_least_one_message() {
    let mut bench = Bench::new();
    for _ in 0..3 {
        let message = vec![b'x'; MAX_ANSWER_BYTES - 40].into();
        bench.apply("t", QueueChange::Put { message, create: true });
    }
    assert_eq!(bench.receive("t", 9).len(), 1);
    let at = At { index: 99, time: bench.time, room: 100 };
    let before = bench.queue.digest();
    for change in [QueueChange::Take { max: 1 }, QueueChange::Receive { max: 1, lease_ms: 1 }] {
        let answer = bench.queue.apply(&"t".into(), change, at);
        assert_eq!(answer, Answer::TooLarge, "as part of a transaction it must fit");
    }
    assert_eq!(bench.queue.pop(&"t".into(), 100), Err(Answer::TooLarge));
    assert_eq!(bench.queue.digest(), before, "and stays where it is");
    let nothing = bench.queue.apply(&"t".into(), QueueChange::Take { max: 0 }, at);
    assert_eq!(nothing, Answer::Queue(QueueAnswer::Messages(vec![])));
    bench.queue.create(&"empty".into(), TopicLimits::default(), 99);
    assert_eq!(bench.queue.pop(&"empty".into(), 0), Ok(None));
    assert_eq!(bench.queue.view(&mut (MAX_ANSWER_BYTES * 2)), None);
}

#[test]
fn nonsense_is_malformed() {
    let mut bench = Bench::new();
    bench.put("t", "a");
    let long: &'static str = Box::leak("x".repeat(MAX_TOPIC_BYTES + 1).into_boxed_str());
    let lease = |lease_ms| QueueChange::Receive { max: 1, lease_ms };
    for (topic, change) in [
        (long, QueueChange::Create { limits: TopicLimits::default() }),
        ("t", lease(0)),
        ("t", lease(MAX_LEASE_MS + 1)),
    ] {
        let answer = bench.apply(topic, change);
        assert!(matches!(answer, Answer::Malformed(_)), "{answer:?}");
    }
    assert_eq!(bench.topics(), "t: a");
}

#[test]
fn peeking_changes_nothing_and_tells_topics_of_one_name_apart() {
    let mut bench = Bench::new();
    let peek = |bench: &Bench, after, max| match bench.ask(QueueQuery::Peek { topic: "t".into(), after, max }) {
        QueueAnswer::Peeked { topic, messages } => (topic, messages),
        other => panic!("{other:?}"),
    };
    bench.put("u", "other");
    bench.put_all("t", "a b c");
    bench.put("v", "other");
    bench.receive("t", 1);
    let before = bench.queue.digest();
    let (first, _) = peek(&bench, 0, 1);
    assert_eq!(peek(&bench, 0, 2), (first, vec![(1, "a".into()), (2, "b".into())]), "what is leased, too");
    assert_eq!(peek(&bench, 2, 9), (first, vec![(3, "c".into())]));
    assert_eq!(peek(&bench, u64::MAX, 9), (first, vec![]));
    assert_eq!(bench.queue.digest(), before);
    bench.apply("t", QueueChange::Delete);
    bench.put("t", "c");
    let (second, _) = peek(&bench, 0, 9);
    bench.apply("t", QueueChange::Delete);
    bench.put("t", "d");
    let (third, messages) = peek(&bench, 0, 9);
    assert_eq!(messages, vec![(1, "d".into())]);
    assert!(first < second && second < third, "{first}, {second}, {third}: also if it was the last topic");
    let message = Bytes::from(vec![b'x'; MAX_ANSWER_BYTES]);
    for _ in 0..2 {
        bench.apply("t", QueueChange::Put { message: message.clone(), create: false });
    }
    assert_eq!(peek(&bench, 1, 9), (third, vec![(2, message)]), "an answer is bounded");
}
