//! The message queue under producers and consumers while leaders are killed and links cut: nothing lost, nothing twice,
//! nothing out of order, and leases honoured.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use raft::client::{Client, Error};
use raft::consensus::NodeId;
use raft::machine::queue::command::{Delivery, Settlement, TopicLimits};

use crate::support::cluster::{Cluster, rounds, wait_until};
use crate::support::links::Links;

const SETTINGS: &str = "ElectionTimeout = 400\nHeartbeatInterval = 50\nSnapshotEntries = 2000\n";
const PRODUCERS: usize = 4;
const CONSUMERS: usize = 2;
/// Longer than any fault lasts: only a consumer that never settles loses a lease.
const LEASE: Duration = Duration::from_secs(60);
/// Of a consumer that dies with it.
const SHORT_LEASE: Duration = Duration::from_millis(1500);

/// A message says whose it is, and its number there.
fn message(producer: usize, number: usize) -> String {
    format!("{producer}-{number}")
}

fn parse(message: &[u8]) -> (usize, usize) {
    let text = std::str::from_utf8(message).expect("our message");
    let (producer, number) = text.split_once('-').expect("our message");
    (producer.parse().expect("a number"), number.parse().expect("a number"))
}

/// How far everybody is.
#[derive(Default)]
struct Progress {
    put: AtomicUsize,
    done: AtomicBool,
}

/// Lets the consumers end, whatever becomes of the test.
struct Ending<'a>(&'a Progress);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.done.store(true, Ordering::SeqCst);
    }
}

/// Puts the messages of one producer on both topics, and checks that their ids grow.
fn produce(mut client: Client, producer: usize, count: usize, progress: &Progress) {
    for topic in ["taken", "leased"] {
        let mut last = 0;
        for number in 0..count {
            let id = client.put(topic.as_bytes(), message(producer, number).as_bytes()).expect("in time");
            assert!(id > last, "{topic}: {id} came after {last}");
            last = id;
            progress.put.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Takes until there is nothing left: what it got, in order.
fn take_all(mut client: Client, progress: &Progress) -> Vec<(usize, usize)> {
    let mut taken = Vec::new();
    loop {
        let done = progress.done.load(Ordering::SeqCst);
        let messages = client.take(b"taken", 20).expect("in time");
        match messages.is_empty() {
            true if done => return taken,
            true => std::thread::sleep(Duration::from_millis(10)),
            false => taken.extend(messages.iter().map(|message| parse(message))),
        }
    }
}

/// One delivery of a message.
#[derive(Clone, Copy, Debug)]
struct Delivered {
    deliveries: u32,
    asked: Instant,
    got: Instant,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Acked,
    GivenBack,
    /// Its consumer died with it.
    Forgotten,
}

type Deliveries = BTreeMap<(usize, usize), Vec<Delivered>>;

/// Receives until there is nothing left. Now and then it gives a message back, and now and then it dies with some.
fn receive_all(mut client: Client, progress: &Progress, all: &Mutex<Deliveries>) {
    let mut last = BTreeMap::new();
    for round in 1.. {
        let done = progress.done.load(Ordering::SeqCst);
        let dies = round % 25 == 0;
        let (count, lease) = if dies { (2, SHORT_LEASE) } else { (10, LEASE) };
        let asked = Instant::now();
        let deliveries = client.receive(b"leased", count, lease).expect("in time");
        let got = Instant::now();
        if deliveries.is_empty() {
            if done && client.topic(b"leased").expect("in time").messages == 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        for (position, Delivery { id, message, deliveries, lease }) in deliveries.into_iter().enumerate() {
            let end = match (dies, position == 3 && round % 7 == 0) {
                (true, _) => End::Forgotten,
                (_, true) => End::GivenBack,
                _ => End::Acked,
            };
            let (producer, number) = parse(&message);
            if deliveries == 1 {
                let before = last.insert(producer, number);
                assert!(before.is_none_or(|before| before < number), "{producer}-{number} came after {before:?}");
            }
            // Noted before it is settled: then another consumer may have it.
            let delivered = Delivered { deliveries, asked, got, end };
            all.lock().expect("nobody panicked").entry((producer, number)).or_default().push(delivered);
            match end {
                End::Acked => client.settle(b"leased", id, lease, &Settlement::Ack).expect("its lease is long"),
                End::GivenBack => client.settle(b"leased", id, lease, &Settlement::Nack).expect("its lease is long"),
                End::Forgotten => {}
            }
        }
    }
}

/// Kills the leader, or cuts it off, in turn, and checks that it was so.
fn disturb(cluster: &mut Cluster, links: &Links, number: usize) {
    let leader = cluster.wait_for_leader();
    let term = |cluster: &Cluster, id| cluster.client().status(NodeId(id)).expect("the node answers").term;
    let before = term(cluster, leader);
    let other = 1 + leader % 3;
    let replaced = |cluster: &Cluster| {
        let mut client = cluster.client_with_timeout(Duration::from_secs(1));
        wait_until("another node leads", || {
            let status = client.status(NodeId(other)).ok()?;
            status.leader.filter(|id| id.0 != leader && status.term > before)
        });
    };
    if number.is_multiple_of(2) {
        cluster.kill(leader);
        replaced(cluster);
        links.spawn(cluster, leader);
    } else {
        let held = links.held(leader);
        links.cut_off(leader);
        replaced(cluster);
        assert!(links.held(leader) > held, "the links have held something back");
        links.heal(leader);
    }
    cluster.wait_for_leader();
}

#[test]
fn no_message_is_lost_or_doubled_or_moved_while_leaders_are_killed_and_links_cut() {
    let (count, faults) = (rounds(500, 12_500), rounds(6, 60));
    let mut cluster = Cluster::prepare(3, SETTINGS);
    let links = Links::of(&cluster);
    cluster.ids().into_iter().for_each(|id| links.spawn(&mut cluster, id));
    cluster.wait_for_leader();
    for topic in ["taken", "leased"] {
        // Without end: a message that is given back again and again stays.
        let limits = TopicLimits { deliveries: 0, ..TopicLimits::default() };
        cluster.client().create_topic(topic.as_bytes(), &limits).expect("a topic");
    }
    let (progress, deliveries) = (Progress::default(), Mutex::new(Deliveries::new()));
    let clients: Vec<Client> = (0..PRODUCERS + 2 * CONSUMERS).map(|_| cluster.client()).collect();
    let taken: Vec<Vec<(usize, usize)>> = std::thread::scope(|scope| {
        let mut clients = clients.into_iter();
        let mut client = || clients.next().expect("one for each");
        let (progress, deliveries) = (&progress, &deliveries);
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|producer| {
                let client = client();
                scope.spawn(move || produce(client, producer, count, progress))
            })
            .collect();
        let takers: Vec<_> = (0..CONSUMERS)
            .map(|_| {
                let client = client();
                scope.spawn(move || take_all(client, progress))
            })
            .collect();
        for _ in 0..CONSUMERS {
            let client = client();
            scope.spawn(move || receive_all(client, progress, deliveries));
        }
        let ending = Ending(progress);
        for fault in 0..faults {
            let enough = (2 * fault + 1) * PRODUCERS * count / faults;
            while progress.put.load(Ordering::SeqCst) < enough && !producers.iter().any(|it| it.is_finished()) {
                std::thread::sleep(Duration::from_millis(5));
            }
            assert!(progress.put.load(Ordering::SeqCst) < 2 * PRODUCERS * count, "fault {fault} came too late");
            disturb(&mut cluster, &links, fault);
        }
        producers.into_iter().for_each(|producer| producer.join().expect("a producer ends"));
        drop(ending);
        takers.into_iter().map(|taker| taker.join().expect("a consumer ends")).collect()
    });
    check_taken(&taken, count);
    check_leased(&deliveries.into_inner().expect("nobody panicked"), count);
    crate::snapshot::assert_same_state(&cluster);
}

fn check_taken(taken: &[Vec<(usize, usize)>], count: usize) {
    let mut seen = BTreeSet::new();
    for consumer in taken {
        let mut last = BTreeMap::new();
        for &(producer, number) in consumer {
            assert!(seen.insert((producer, number)), "{producer}-{number} was taken twice");
            let before = last.insert(producer, number);
            assert!(before.is_none_or(|before| before < number), "{producer}-{number} came after {before:?}");
        }
        assert!(!consumer.is_empty(), "everybody got some");
    }
    assert_eq!(seen.len(), PRODUCERS * count, "nothing is lost");
}

fn check_leased(deliveries: &Deliveries, count: usize) {
    assert_eq!(deliveries.len(), PRODUCERS * count, "nothing is lost");
    let mut ends = BTreeMap::new();
    for (message, times) in deliveries {
        // A consumer may hear late of what it had.
        let mut times = times.clone();
        times.sort_by_key(|delivered| delivered.deliveries);
        for (number, delivered) in (1..).zip(&times) {
            *ends.entry(format!("{:?}", delivered.end)).or_insert(0) += 1;
            assert_eq!(delivered.deliveries, number, "{message:?}: each delivery is counted: {times:?}");
            let is_last = number as usize == times.len();
            assert_eq!(delivered.end == End::Acked, is_last, "{message:?} comes until it is acknowledged: {times:?}");
        }
        for pair in times.windows(2).filter(|pair| pair[0].end == End::Forgotten) {
            let between = pair[1].got - pair[0].asked;
            // Log time has whole milliseconds: the one in which a lease begins counts as if it had just begun.
            let shortest = SHORT_LEASE - Duration::from_millis(1);
            assert!(between > shortest, "{message:?} came again during its lease, after {between:?}");
        }
    }
    println!("{ends:?}");
    assert_eq!(ends.len(), 3, "some were acknowledged, given back, and forgotten: {ends:?}");
}

#[test]
pub fn what_a_dead_consumer_had_comes_back_in_order_under_the_next_leader() {
    let mut cluster = Cluster::with(3, SETTINGS);
    let leader = cluster.wait_for_leader();
    let (mut dead, mut alive) = (cluster.client(), cluster.client());
    dead.create_topic(b"jobs", &TopicLimits::default()).expect("a topic");
    for n in 1..=6 {
        dead.put(b"jobs", n.to_string().as_bytes()).expect("a message");
    }
    let asked = Instant::now();
    let lease = Duration::from_secs(3);
    let had = dead.receive(b"jobs", 4, lease).expect("messages");
    assert_eq!(ids(&had), [1, 2, 3, 4]);
    dead.settle(b"jobs", 2, had[1].lease, &Settlement::Ack).expect("in time");
    cluster.kill(leader);
    assert_ne!(cluster.wait_for_leader(), leader);
    let others = alive.receive(b"jobs", 9, Duration::from_secs(60)).expect("messages");
    assert!(asked.elapsed() < lease, "this machine is too slow for this test");
    assert_eq!(ids(&others), [5, 6], "the others are leased, by log time, under the new leader, too");
    // Nobody writes: the cluster itself sees to it that log time goes on.
    let again = wait_until("the leases end", || {
        let back = alive.topic(b"jobs").expect("the topic").leased == 2;
        back.then(|| alive.receive(b"jobs", 9, Duration::from_secs(60)).expect("messages"))
    });
    assert!(asked.elapsed() >= lease);
    assert_eq!(again.iter().map(|it| (it.id, it.deliveries)).collect::<Vec<_>>(), [(1, 2), (3, 2), (4, 2)]);
    let late = dead.settle(b"jobs", 1, had[0].lease, &Settlement::Ack).expect_err("its lease is over");
    assert!(matches!(late, Error::Stale(_)), "{late}");
    for it in again.iter().chain(&others) {
        alive.settle(b"jobs", it.id, it.lease, &Settlement::Ack).expect("in time");
    }
    assert_eq!(alive.topic(b"jobs").expect("the topic").messages, 0, "nothing is left over, and 2 never came again");
}

fn ids(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(|it| it.id).collect()
}

#[test]
fn a_topic_made_anew_while_a_node_was_down_has_nothing_of_the_old_one() {
    let mut cluster = Cluster::with(3, SETTINGS);
    let leader = cluster.wait_for_leader();
    let late = 1 + leader % 3;
    let mut client = cluster.client();
    client.create_topic(b"jobs", &TopicLimits::default()).expect("a topic");
    client.put(b"jobs", b"old").expect("a message");
    let old = client.receive(b"jobs", 1, Duration::from_secs(60)).expect("a message");
    cluster.wait_until_caught_up();
    cluster.kill(late);
    client.delete_topic(b"jobs").expect("it is there");
    client.create_topic(b"jobs", &TopicLimits::default()).expect("a topic");
    client.put(b"jobs", b"new").expect("a message");
    cluster.spawn(late);
    cluster.wait_for_leader();
    cluster.wait_until_caught_up();
    client.transfer(NodeId(late)).expect("it takes over");
    assert_eq!(cluster.wait_for_leader(), late);
    let stale = client.settle(b"jobs", 1, old[0].lease, &Settlement::Ack).expect_err("a lease of the old topic");
    assert!(matches!(stale, Error::Stale(_)), "{stale}");
    assert_eq!(client.take(b"jobs", 9), Ok(vec!["new".into()]));
}
