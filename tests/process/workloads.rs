//! Maelstrom's workloads on real processes: one node; three nodes, one of them cut off and then another one killed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use serde_json::{Value, json};

use crate::support::maelstrom::{Client, Router};

/// How long a client waits. Those of a node that is dead shall not wait for long.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How long a cluster may take to serve again.
const RECOVERY: Duration = Duration::from_secs(20);
/// How many requests are to be carried out in each stage of a run.
const STAGE: usize = 25;

fn cluster(count: usize, workload: &str) -> Router {
    Router::with_processes(count, env!("CARGO_BIN_EXE_raft"), &["-t", "stdio", "--workload", workload])
}

/// Asks until there is an answer that tells. Only for what may be done twice.
fn ask(client: &mut Client, node: &str, body: Value) -> Value {
    let deadline = Instant::now() + RECOVERY;
    loop {
        match client.request(node, body.clone(), TIMEOUT) {
            Ok(answer) if ![11, 13].map(Value::from).contains(&answer["code"]) => return answer,
            answer => assert!(Instant::now() < deadline, "{node} still answers {answer:?} to {body}"),
        }
    }
}

/// A request and what came of it, in the order of its client. `None`: nobody knows whether it took effect.
struct Done {
    client: usize,
    request: Value,
    answer: Option<Value>,
}

/// Requests of several clients, and a node that can be asked about the outcome.
struct Run {
    router: Router,
    done: Vec<Done>,
    alive: &'static str,
}

/// Runs a workload. `make` makes a request of a client from its number among all requests.
fn run(count: usize, workload: &str, make: impl Fn(usize) -> Value + Sync) -> Run {
    let router = cluster(count, workload);
    let (stop, next) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (told, events) = unbounded();
    for name in router.names() {
        ask(&mut router.client(), &name, json!({"type": "txn", "txn": [["w", "awake", true]]}));
    }
    let done = thread::scope(|scope| {
        let clients = router.names().into_iter().enumerate().map(|(client, node)| {
            let (told, mut connection) = (told.clone(), router.client());
            let (stop, next, make) = (&stop, &next, &make);
            let work = move || {
                repeat(client, &node, &mut connection, &told, stop, || make(next.fetch_add(1, Ordering::Relaxed)))
            };
            scope.spawn(work)
        });
        let clients: Vec<_> = clients.collect();
        meanwhile(&router, &events);
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().flat_map(|client| client.join().expect("a client ends well")).collect()
    });
    let alive = if count == 1 { "n1" } else { "n3" };
    Run { router, done, alive }
}

/// Makes requests until it is told to stop. Tells whether each was carried out.
fn repeat(
    client: usize,
    node: &str,
    connection: &mut Client,
    told: &Sender<(usize, bool)>,
    stop: &AtomicBool,
    make: impl Fn() -> Value,
) -> Vec<Done> {
    let mut done = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let request = make();
        let answer = connection.request(node, request.clone(), TIMEOUT).ok();
        let code = answer.as_ref().and_then(|answer| answer["code"].as_u64());
        assert!([None, Some(11), Some(13)].contains(&code), "{answer:?} to {request}");
        let _ = told.send((client, answer.is_some() && code.is_none()));
        // What was refused for certain is as if it had not been asked.
        if code != Some(11) {
            done.push(Done { client, request, answer: answer.filter(|_| code.is_none()) });
        }
    }
    done
}

/// Lets the clients work, and cuts off one of three nodes and kills another one.
fn meanwhile(router: &Router, events: &Receiver<(usize, bool)>) {
    // Until each of these clients has had so many requests carried out, and this one had one that was not.
    let wait = |busy: &[usize], failing: Option<usize>| {
        let mut carried_out: BTreeMap<usize, usize> = BTreeMap::new();
        let mut failed = failing.is_none();
        while !failed || busy.iter().any(|client| carried_out.get(client).is_none_or(|count| *count < STAGE)) {
            let (client, success) = events.recv_timeout(RECOVERY).expect("clients go on");
            *carried_out.entry(client).or_default() += usize::from(success);
            failed |= Some(client) == failing && !success;
        }
    };
    if router.names().len() == 1 {
        return wait(&[0], None);
    }
    wait(&[0, 1, 2], None);
    router.partition(&[&["n1"], &["n2", "n3"]]);
    wait(&[1, 2], Some(0));
    router.heal();
    wait(&[0, 1, 2], None);
    router.kill("n2");
    wait(&[0, 2], Some(1));
}

impl Run {
    /// Asks a node that is alive.
    fn ask(&self, body: Value) -> Value {
        ask(&mut self.router.client(), self.alive, body)
    }

    fn carried_out(&self) -> impl Iterator<Item = (&Done, &Value)> {
        self.done.iter().filter_map(|done| Some((done, done.answer.as_ref()?)))
    }

    fn end(self) {
        assert_eq!(self.router.violations(), Vec::<String>::new());
    }
}

/// A set has what was added, nothing else, and nothing twice; so has what is read meanwhile.
fn grow_only_set(workload: &str, add: &str, element: &str, field: &str) {
    for count in [1, 3] {
        let run = run(count, workload, |number| match number % 5 {
            0 => json!({"type": "read"}),
            _ => json!({"type": add, element: number}),
        });
        let last = run.ask(json!({"type": "read"}));
        let elements: Vec<&Value> = last[field].as_array().unwrap().iter().collect();
        let of = |done: &Done| done.request[element].as_u64();
        let asked: BTreeSet<u64> = run.done.iter().filter_map(of).collect();
        let sure: BTreeSet<u64> = run.carried_out().filter_map(|(done, _)| of(done)).collect();
        let found: BTreeSet<u64> = elements.iter().map(|element| element.as_u64().unwrap()).collect();
        assert_eq!(found.len(), elements.len(), "none twice");
        assert!(sure.is_subset(&found), "lost: {:?}", sure.difference(&found));
        assert!(found.is_subset(&asked), "from nowhere: {:?}", found.difference(&asked));
        for (done, read) in run.carried_out().filter(|(done, _)| done.request["type"] == "read") {
            let read = read[field].as_array().unwrap();
            let its: BTreeSet<u64> = run
                .done
                .iter()
                .take_while(|other| !std::ptr::eq(*other, done))
                .filter(|other| other.client == done.client && other.answer.is_some())
                .filter_map(of)
                .collect();
            assert!(elements.iter().zip(read).all(|(last, then)| *last == then), "reads are moments of one set");
            assert!(its.iter().all(|element| read.contains(&json!(element))), "a client sees what it added");
        }
        run.end();
    }
}

#[test]
fn broadcast() {
    grow_only_set("broadcast", "broadcast", "message", "messages");
}

#[test]
fn a_grow_only_set() {
    grow_only_set("g-set", "add", "element", "value");
}

#[test]
fn counters() {
    for (count, workload, sign) in [(1, "g-counter", 1), (3, "g-counter", 1), (3, "pn-counter", -1)] {
        let run = run(count, workload, |number| match number % 5 {
            0 => json!({"type": "read"}),
            1 => json!({"type": "add", "delta": sign * number as i64}),
            _ => json!({"type": "add", "delta": number}),
        });
        let sum = run.ask(json!({"type": "read"}))["value"].as_i64().unwrap();
        let delta = |done: &Done| done.request["delta"].as_i64().unwrap_or(0);
        let sure: i64 = run.carried_out().map(|(done, _)| delta(done)).sum();
        let unsure: Vec<i64> = run.done.iter().filter(|done| done.answer.is_none()).map(delta).collect();
        let possible = unsure
            .iter()
            .fold(BTreeSet::from([sure]), |sums, delta| sums.iter().flat_map(|sum| [*sum, sum + delta]).collect());
        assert!(possible.contains(&sum), "{sum} is not {sure} with any of {unsure:?}");
        run.end();
    }
}

#[test]
fn logs_lose_nothing_and_have_no_gaps() {
    for count in [1, 3] {
        let run = run(count, "kafka", |number| {
            let key = format!("k{}", number / 3 % 2);
            match number % 3 {
                0 => json!({"type": "poll", "offsets": {"k0": number / 20, "k1": 0}}),
                1 => json!({"type": "commit_offsets", "offsets": {key: number / 6}}),
                _ => json!({"type": "send", "key": key, "msg": number}),
            }
        });
        let last = run.ask(json!({"type": "poll", "offsets": {"k0": 0, "k1": 0}}))["msgs"].take();
        let log = |key: &str| last[key].as_array().unwrap().clone();
        for key in ["k0", "k1"] {
            assert!(!log(key).is_empty());
            let offsets = log(key).iter().enumerate().all(|(offset, message)| message[0] == json!(offset));
            assert!(offsets, "dense and in order: {last}");
            let messages: BTreeSet<u64> = log(key).iter().map(|message| message[1].as_u64().unwrap()).collect();
            assert_eq!(messages.len(), log(key).len(), "none twice");
        }
        for (done, answer) in run.carried_out() {
            match done.request["type"].as_str() {
                Some("send") => {
                    let (offset, log) = (&answer["offset"], log(done.request["key"].as_str().unwrap()));
                    assert_eq!(log[offset.as_u64().unwrap() as usize], json!([offset, done.request["msg"]]));
                }
                Some("poll") => {
                    for (key, from) in done.request["offsets"].as_object().unwrap() {
                        let read = answer["msgs"][key].as_array().unwrap();
                        let log = log(key);
                        let rest = log.get(from.as_u64().unwrap() as usize..).unwrap_or_default();
                        assert!(rest.starts_with(read), "what was polled stays");
                    }
                }
                _ => {}
            }
        }
        let committed = run.ask(json!({"type": "list_committed_offsets", "keys": ["k0", "k1", "k2"]}));
        for key in ["k0", "k1"] {
            let upto = |done: &Done| {
                done.request["offsets"][key].as_u64().filter(|_| done.request["type"] == "commit_offsets")
            };
            let sure = run.carried_out().filter_map(|(done, _)| upto(done)).max();
            let most = run.done.iter().filter_map(upto).max();
            let found = committed["offsets"][key].as_u64();
            assert!(sure <= found && found <= most, "{key}: {sure:?}, {found:?}, {most:?}");
        }
        assert_eq!(committed["offsets"].get("k2"), None, "nobody committed anything of it");
        run.end();
    }
}

/// The order of the lists' elements is the order of the transactions: each saw a prefix of every list that it read, its own
/// element at the end where it had appended one, and of two lists the same moment.
#[test]
fn transactions_over_lists() {
    for count in [1, 3] {
        // Each appends its number to both lists, between two looks at both, or only looks.
        let run = run(count, "txn-list-append", |number| match number % 4 {
            0 => json!({"type": "txn", "txn": [["r", 1, null], ["r", 2, null]]}),
            _ => json!({"type": "txn", "txn":
                [["r", 1, null], ["append", 1, number], ["append", 2, number], ["r", 1, null], ["r", 2, null]]}),
        });
        let last = run.ask(json!({"type": "txn", "txn": [["r", 1, null], ["r", 2, null]]}))["txn"].take();
        let list = |operation: &Value| operation[2].as_array().cloned().unwrap_or_default();
        let all = list(&last[0]);
        assert_eq!(all, list(&last[1]), "every transaction appended to both");
        let distinct: BTreeSet<u64> = all.iter().map(|element| element.as_u64().unwrap()).collect();
        assert_eq!(distinct.len(), all.len(), "none took effect twice");
        let mut seen: BTreeMap<usize, usize> = BTreeMap::new();
        for (done, answer) in run.carried_out() {
            let txn = answer["txn"].as_array().unwrap();
            let (one, two) = (list(&txn[txn.len() - 2]), list(&txn[txn.len() - 1]));
            assert_eq!(one, two, "both of one moment");
            assert!(all.starts_with(&one), "what was read stays");
            let before = seen.insert(done.client, one.len()).unwrap_or(0);
            if txn.len() == 2 {
                assert!(one.len() >= before, "a client does not go back");
                continue;
            }
            let (own, others) = one.split_last().unwrap();
            assert_eq!(*own, txn[1][2], "its own is the last");
            assert_eq!(list(&txn[0]), others, "nothing came between");
            assert!(one.len() > before, "a client does not go back");
        }
        run.end();
    }
}

/// Each transaction replaces both registers: those that it saw were always equal, no two saw the same value before their own,
/// and the values follow each other in one chain.
#[test]
fn transactions_over_registers() {
    for count in [1, 3] {
        let run = run(count, "txn-rw-register", |number| match number % 4 {
            0 => json!({"type": "txn", "txn": [["r", "a", null], ["r", "b", null]]}),
            _ => json!({"type": "txn", "txn":
                [["r", "a", null], ["w", "a", number], ["r", "b", null], ["w", "b", number], ["r", "a", null]]}),
        });
        let last = run.ask(json!({"type": "txn", "txn": [["r", "a", null], ["r", "b", null]]}))["txn"].take();
        assert_eq!(last[0][2], last[1][2]);
        let mut followers = BTreeMap::new();
        for (_, answer) in run.carried_out() {
            let txn = answer["txn"].as_array().unwrap();
            if txn.len() == 2 {
                assert_eq!(txn[0][2], txn[1][2], "both of one moment");
                continue;
            }
            assert_eq!(txn[0][2], txn[2][2], "both of one moment");
            assert_eq!(txn[4][2], txn[1][2], "it sees its own write");
            let twice = followers.insert(txn[0][2].to_string(), txn[1][2].to_string());
            assert_eq!(twice, None, "an update was lost");
        }
        assert!(followers.len() >= STAGE / 2);
        run.end();
    }
}

/// Without any other node there is no leader, and these need none.
#[test]
fn a_node_that_reaches_nobody_echoes_and_makes_ids() {
    let router = cluster(3, "unique-ids");
    router.partition(&[&["n1"], &["n2"], &["n3"]]);
    let mut client = router.client();
    let mut ids = BTreeSet::new();
    for number in 0..300 {
        let node = &router.names()[number % 3];
        let echo = client.request(node, json!({"type": "echo", "echo": number}), TIMEOUT).unwrap();
        assert_eq!((&echo["type"], &echo["echo"]), (&json!("echo_ok"), &json!(number)));
        let made = client.request(node, json!({"type": "generate"}), TIMEOUT).unwrap();
        assert_eq!(made["type"], "generate_ok");
        assert!(ids.insert(made["id"].to_string()), "{made} again");
    }
    assert_eq!(router.violations(), Vec::<String>::new());
}
