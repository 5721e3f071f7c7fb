//! The service in front of a node that is played by the test.

use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::Response as HttpResponse;
use http_body_util::BodyExt;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use super::socket::Client;
use super::*;
use crate::machine::command::{Answer, Command, Query};
use crate::machine::queue::command::{Delivery, QueueAnswer, TopicInfo, TopicLimits};
use crate::runtime::{ClientRequest, Inboxes, NodeStatus, Operation, Outcome, Reply, ReplySink, Response, Woken};
use crate::transport::Failure;

/// The service, and a node that answers as it is told.
struct Bench {
    gateway: Arc<Gateway>,
    phase: watch::Sender<Phase>,
    runtime: Runtime,
    /// What the node was asked, in words.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Bench {
    /// A node whose answer to each request this decides, from how many there were before.
    fn new(answer: impl FnMut(usize) -> Outcome + Send + 'static) -> Bench {
        let (bench, inboxes) = Bench::without_node();
        bench.play(inboxes, answer);
        bench
    }

    fn without_node() -> (Bench, Inboxes) {
        let (node, inboxes) = NodeHandle::new();
        let options =
            HttpOptions { max_request_bytes: 1000, seats: Seats::new(10), nodes: vec![(NodeId(1), "A".into())] };
        let (phase, phases) = watch::channel(Phase::Serving);
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let bench = Bench { gateway: Gateway::new(options, node, phases), phase, runtime, asked: Arc::default() };
        (bench, inboxes)
    }

    fn play(&self, inboxes: Inboxes, mut answer: impl FnMut(usize) -> Outcome + Send + 'static) {
        let asked = Arc::clone(&self.asked);
        thread::spawn(move || {
            for (number, ClientRequest { operation, reply, forward, .. }) in inboxes.clients.iter().enumerate() {
                assert!(forward);
                let words = match operation {
                    Operation::Write(payload) => Command::decode(&payload).unwrap().to_string(),
                    Operation::Read(payload) => format!("{:?}", Query::decode(&payload).unwrap()),
                    other => format!("{other:?}"),
                };
                asked.lock().unwrap().push(words);
                reply.send(answer(number)).flush();
            }
        });
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    fn ask(&self, method: &str, target: &str, body: &str) -> (StatusCode, String, HttpResponse) {
        let response = self.runtime.block_on(self.dispatch(method, target, body));
        self.shown(response)
    }

    fn dispatch(&self, method: &str, target: &str, body: &str) -> impl Future<Output = HttpResponse> + use<> {
        let request = Request::builder().method(method).uri(target).body(Body::from(body.to_owned())).unwrap();
        routes::dispatch(Arc::clone(&self.gateway), Client::new(1, None), request)
    }

    fn shown(&self, mut response: HttpResponse) -> (StatusCode, String, HttpResponse) {
        let body = std::mem::take(response.body_mut());
        let bytes = self.runtime.block_on(body.collect()).unwrap().to_bytes();
        (response.status(), String::from_utf8(bytes.to_vec()).unwrap(), response)
    }
}

/// Whoever fills the inbox.
struct Nobody;

impl ReplySink for Nobody {
    fn reply(&self, _slot: u64, _outcome: Outcome) {}
}

fn queue(answer: QueueAnswer) -> Outcome {
    Ok(Response::Answer(Answer::Queue(answer).encode()))
}

fn delivery(id: u64) -> QueueAnswer {
    QueueAnswer::Deliveries(vec![Delivery { id, message: "m".into(), deliveries: 1, lease: 7 }])
}

const NEW_TOPIC: &str = r#"{"topic": "t"}"#;

#[test]
fn every_failure_has_its_status_and_its_words() {
    for (failure, status, word, again) in [
        (Failure::NotReady("no\nleader \u{e9}".into()), 503, "not_ready", true),
        (Failure::Overloaded("why".into()), 429, "overloaded", true),
        (Failure::Unknown("why".into()), 504, "outcome_unknown", false),
        (Failure::Refused("why".into()), 400, "bad_request", false),
    ] {
        let outcome = failure.clone();
        let bench = Bench::new(move |_| Err(outcome.clone()));
        for (method, target, body, compared) in
            [("PUT", "/topic", NEW_TOPIC, true), ("GET", "/topic", "", true), ("DELETE", "/topic/t", "", false)]
        {
            let (found, text, response) = bench.ask(method, target, body);
            assert_eq!(found.as_u16(), status, "{method} {target}");
            assert_eq!(response.headers()["raft-error"], word);
            assert_eq!(response.headers().contains_key("retry-after"), again);
            let keys = serde_json::from_str::<serde_json::Value>(&text).unwrap().as_object().unwrap().len();
            assert_eq!(keys, if compared && status != 400 { 1 } else { 3 }, "{text}");
            if status == 503 {
                assert_eq!(response.headers()["raft-error-message"], "no\\nleader \\u{e9}");
            }
        }
    }
}

#[test]
fn a_full_inbox_is_overload_and_status_is_answered_all_the_same() {
    let (bench, inboxes) = Bench::without_node();
    let request = |slot| {
        let reply = Reply::new(Arc::new(Nobody), slot);
        ClientRequest { connection: 2, operation: Operation::Status, forward: true, reply }
    };
    assert!((0..1_000_000).any(|slot| bench.gateway.node.request(request(slot)).is_err()), "its inbox is bounded");
    let (status, text, _) = bench.ask("GET", "/topic", "");
    assert_eq!((status.as_u16(), &text[..]), (429, r#"{"success": false}"#));
    assert_eq!(bench.gateway.node.metrics().inbox_full.get(), 2);

    let node = thread::spawn(move || {
        let reply = inboxes.questions().recv().expect("the question for its status");
        let status = NodeStatus {
            id: NodeId(1),
            label: "A".into(),
            role: crate::consensus::Role::PreCandidate,
            term: 3,
            leader: None,
            last: 9,
            commit: 8,
            applied: 7,
            abstains: false,
            peers: Vec::new(),
        };
        reply.send(Ok(Response::Status(Box::new(status)))).flush();
    });
    let (status, text, _) = bench.ask("GET", "/status", "");
    let expected = r#"{"role": "Candidate", "term": 3, "id": 1, "label": "A", "leader": null, "last": 9, "commit": 8, "applied": 7, "abstains": false, "peers": []}"#;
    assert_eq!((status.as_u16(), &text[..]), (200, expected));
    node.join().unwrap();
    let (status, text, _) = bench.ask("GET", "/status", "");
    assert_eq!((status.as_u16(), &text[..]), (503, r#"{"success": false}"#), "the node is gone");
}

#[test]
fn all_topics_are_in_one_answer_however_many_pages_they_take() {
    let bench = Bench::new(|number| {
        let topics = vec![(number as u64 + 1, format!("t{number}").into())];
        queue(QueueAnswer::Topics { topics, more: number < 2 })
    });
    assert_eq!(bench.ask("GET", "/topic", "").1, r#"{"success": true, "topics": ["t0", "t1", "t2"]}"#);
    let asked = bench.asked.lock().unwrap();
    assert!(
        asked[0].contains("after: 0") && asked[1].contains("after: 1") && asked[2].contains("after: 2"),
        "{asked:?}"
    );
}

#[test]
fn answers_that_nobody_takes_are_counted_and_bounded() {
    let bench = Bench::new(|_| queue(QueueAnswer::NoTopic));
    let response = bench.runtime.block_on(bench.dispatch("GET", "/message/t", ""));
    assert_eq!(bench.gateway.output_bytes.get(), r#"{"success": false}"#.len());
    drop(response);
    assert_eq!(bench.gateway.output_bytes.get(), 0);
    let much = bench.gateway.output_bytes.share(usize::MAX / 2);
    assert_eq!(bench.ask("GET", "/message/t", "").0.as_u16(), 429);
    assert_eq!(bench.asked(), 1, "it popped nothing");
    drop(much);
    assert_eq!(bench.ask("GET", "/message/t", "").0.as_u16(), 404);
    let much = bench.gateway.input_bytes.share(usize::MAX / 2);
    assert_eq!(bench.ask("PUT", "/topic", NEW_TOPIC).0.as_u16(), 429);
    drop(much);
    assert_eq!(bench.gateway.input_bytes.get(), 0);
    assert_eq!(bench.ask("PUT", "/topic", &"x".repeat(1001)).0.as_u16(), 413);
}

#[test]
fn whoever_went_away_while_waiting_leases_nothing_and_the_next_is_woken() {
    let bench = Bench::new(|number| match number {
        // Both look once, then one of them after the message has come.
        0 | 1 => queue(QueueAnswer::Deliveries(Vec::new())),
        _ => queue(delivery(5)),
    });
    let wait = "/message/t/receive?wait_ms=60000";
    let (mut first, mut second) =
        (Box::pin(bench.dispatch("POST", wait, "")), Box::pin(bench.dispatch("POST", wait, "")));
    for (request, asked) in [(&mut first, 1), (&mut second, 2)] {
        while bench.asked() < asked {
            let _ = bench
                .runtime
                .block_on(async { tokio::time::timeout(Duration::from_millis(1), request.as_mut()).await });
        }
        // It has its answer, and waits.
        let _ =
            bench.runtime.block_on(async { tokio::time::timeout(Duration::from_millis(50), request.as_mut()).await });
    }
    bench.gateway.waiters.woken(&[("t".into(), 1)]);
    drop(first);
    let response = bench.runtime.block_on(second);
    assert_eq!(bench.asked(), 3, "the one that is gone has not asked again");
    let expected = r#"{"success": true, "messages": [{"id": 5, "message": "m", "deliveries": 1, "lease": 7}]}"#;
    assert_eq!(bench.shown(response).1, expected);
}

#[test]
fn those_with_a_key_look_once_for_each_message_and_do_not_wake_each_other_for_ever() {
    let empty = TopicInfo { messages: 1, leased: 1, bytes: 1, oldest_ms: None, limits: TopicLimits::default() };
    let bench = Bench::new(move |number| match number {
        // Whether it has an answer already is asked once.
        0 | 1 => Ok(Response::Answer(Answer::Count(0).encode())),
        _ => queue(QueueAnswer::Info(empty.clone())),
    });
    let keyed = || {
        let request = Request::builder().method("POST").uri("/message/t/receive?wait_ms=60000");
        let request = request.header("Idempotency-Key", "k").body(Body::empty()).unwrap();
        routes::dispatch(Arc::clone(&bench.gateway), Client::new(1, None), request)
    };
    let (first, second) = (keyed(), keyed());
    let mut both = Box::pin(async { tokio::join!(first, second) });
    for woken in 0..4 {
        let for_a_while = async { tokio::time::timeout(Duration::from_millis(100), &mut both).await.is_err() };
        assert!(bench.runtime.block_on(for_a_while), "there is nothing to receive");
        assert_eq!(bench.asked(), 4 + woken);
        bench.gateway.waiters.woken(&[("t".into(), 1)]);
    }
}

#[test]
fn a_receive_that_was_answered_before_does_not_wait_for_another_message() {
    let bench = Bench::new(|number| match number {
        0 => Ok(Response::Answer(Answer::Count(1).encode())),
        _ => Ok(Response::Answer(Answer::Transaction(vec![Answer::Queue(delivery(5)).encode()]).encode())),
    });
    let request = Request::builder().method("POST").uri("/message/t/receive?wait_ms=60000");
    let request = request.header("Idempotency-Key", "k").body(Body::empty()).unwrap();
    let repeated = routes::dispatch(Arc::clone(&bench.gateway), Client::new(1, None), request);
    let (status, text, _) = bench.shown(bench.runtime.block_on(repeated));
    assert_eq!(status, StatusCode::OK);
    assert!(text.contains(r#""id": 5"#), "{text}");
    assert_eq!(bench.asked.lock().unwrap()[0], r#"IsAnswered { key: b"k" }"#);
}

#[test]
fn a_body_that_is_no_object_is_refused_even_if_it_has_all_that_is_needed() {
    let bench = Bench::new(|_| Err(Failure::Unknown("it must not be asked".into())));
    for (method, target, list) in [
        ("PUT", "/topic", r#"["t", null, null, null]"#),
        ("PUT", "/message", r#"["t", "m"]"#),
        ("PUT", "/kv/k", r#"["v"]"#),
        ("POST", "/message/t/ack", "[1, 2, null]"),
    ] {
        for body in [list, " null", "7", "x"] {
            let (status, text, _) = bench.ask(method, target, body);
            assert_eq!(status.as_u16(), 400, "{target} {body}: {text}");
            assert!(text.contains("the body should be a JSON object"), "{target} {body}: {text}");
        }
    }
    assert_eq!(bench.asked(), 0);
}

#[test]
fn a_service_that_closes_lets_nobody_wait() {
    let bench = Bench::new(|_| queue(QueueAnswer::Deliveries(Vec::new())));
    bench.phase.send_replace(Phase::Closing);
    let (status, text, _) = bench.ask("POST", "/message/t/receive?wait_ms=60000", "");
    assert_eq!(status.as_u16(), 503);
    assert!(text.contains("not_ready"), "{text}");
    let (status, text, _) = bench.ask("POST", "/message/t/receive", "");
    assert_eq!((status.as_u16(), &text[..]), (200, r#"{"success": true, "messages": []}"#));
}
