//! `raft-shell bench etcd://`, against a server that only pretends to be etcd.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread;

use bytes::Bytes;
use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream};
use hyper::{HeaderMap, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;

use crate::bench::{Bench, assert_adds_up, count};

/// An empty message, and one with a single key-value (field 2).
const EMPTY: &[u8] = b"\0\0\0\0\0";
const FOUND: &[u8] = b"\0\0\0\0\x05\x12\x03\x0a\x01k";

/// What is answered.
enum Answer {
    /// This message, and status 0.
    Message(&'static [u8]),
    /// This status with no message, as gRPC's servers send it: in the head.
    Status(&'static str),
    /// Nothing: the stream is reset.
    Reset,
    /// Nothing ever.
    Hang,
}

/// Paths and messages.
type Requests = Vec<(String, Vec<u8>)>;

/// A server, for as long as the process lives.
struct FakeEtcd {
    address: SocketAddr,
    /// What it was asked.
    asked: Arc<Mutex<Requests>>,
}

impl FakeEtcd {
    /// Answers the requests with a path and a number from 0 on.
    fn start(answer: impl Fn(&str, usize) -> Answer + Send + Sync + 'static) -> FakeEtcd {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("it can be polled");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::default();
        let (answer, log) = (Arc::new(answer), Arc::clone(&asked));
        thread::spawn(move || {
            Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listener");
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, Arc::clone(&answer), Arc::clone(&log)));
                }
            });
        });
        FakeEtcd { address, asked }
    }

    fn url(&self) -> String {
        format!("etcd://{}", self.address)
    }

    fn asked(&self) -> Requests {
        self.asked.lock().expect("nobody panicked").clone()
    }
}

async fn serve(
    stream: TcpStream,
    answer: Arc<impl Fn(&str, usize) -> Answer + Send + Sync + 'static>,
    log: Arc<Mutex<Requests>>,
) {
    // One that only looks whether there is somebody sends nothing.
    let Ok(mut connection) = server::handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
        tokio::spawn(async move {
            let path = request.uri().path().to_owned();
            let message = read(request).await;
            let number = {
                let mut log = log.lock().expect("nobody panicked");
                log.push((path.clone(), message));
                log.len() - 1
            };
            respond_with(answer(&path, number), respond).await;
        });
    }
}

/// The whole message; what gRPC wants of its head is checked.
async fn read(request: Request<RecvStream>) -> Vec<u8> {
    assert_eq!((request.method().as_str(), &request.headers()["te"]), ("POST", &"trailers".parse().unwrap()));
    assert_eq!(request.headers()["content-type"], "application/grpc");
    let mut body = request.into_body();
    let mut message = Vec::new();
    while let Some(Ok(part)) = body.data().await {
        let _ = body.flow_control().release_capacity(part.len());
        message.extend_from_slice(&part);
    }
    message
}

/// The client may be gone: errors are its business.
async fn respond_with(answer: Answer, mut respond: SendResponse<Bytes>) {
    let status = |status: &str| HeaderMap::from_iter([("grpc-status".parse().unwrap(), status.parse().unwrap())]);
    let mut head = Response::new(());
    match answer {
        Answer::Message(message) => {
            if let Ok(mut stream) = respond.send_response(head, false) {
                let _ = stream.send_data(Bytes::from_static(message), false);
                let _ = stream.send_trailers(status("0"));
            }
        }
        Answer::Status(code) => {
            *head.headers_mut() = status(code);
            let _ = respond.send_response(head, true);
        }
        Answer::Reset => respond.send_reset(Reason::INTERNAL_ERROR),
        Answer::Hang => std::future::pending().await,
    }
}

/// What etcd would answer.
fn served(path: &str) -> Answer {
    Answer::Message(if path == "/etcdserverpb.KV/Range" { FOUND } else { EMPTY })
}

#[test]
fn puts_and_gets_are_etcds_and_add_up() {
    let etcd = FakeEtcd::start(|path, _| served(path));
    let (json, svg, code) = Bench::start(&etcd.url(), &["--seconds", "0.3", "--value-size", "2"]).end();
    assert_eq!(code, Some(0), "{json}");
    assert_adds_up(&json);
    assert_eq!((count(&json, "/failed"), count(&json, "/lost_connections"), count(&json, "/get/nil")), (0, 0, 0));
    assert!(count(&json, "/put/answered") > 10 && count(&json, "/get/answered") > 10, "{json}");
    assert_eq!(json["target"], etcd.url());
    assert!(svg.contains("<polyline class=\"p99\""), "{svg}");

    let asked = etcd.asked();
    let get = b"\0\0\0\0\x10\x0a\x0ebench-00000049".to_vec();
    assert!(asked.contains(&("/etcdserverpb.KV/Range".to_owned(), get)), "one of {} requests", asked.len());
}

/// Two connections fill, and their streams are served side by side: no order is promised among the keys.
#[test]
fn keys_that_will_be_asked_for_are_put_first() {
    let etcd = FakeEtcd::start(|path, _| served(path));
    let (json, _, code) = Bench::start(&etcd.url(), &["--seconds", "0.2", "--mix", "get=1", "--value-size", "2"]).end();
    assert_eq!(code, Some(0), "{json}");
    assert_adds_up(&json);
    assert_eq!(count(&json, "/put/answered"), 0, "filling is not counted");
    let mut puts: Vec<_> = etcd.asked().into_iter().filter(|(path, _)| path == "/etcdserverpb.KV/Put").collect();
    puts.sort_unstable();
    let put = |key| format!("\0\0\0\0\x14\x0a\x0ebench-{key:08}\x12\x02xx").into_bytes();
    let each_key: Vec<_> = (0..50).map(|key| ("/etcdserverpb.KV/Put".to_owned(), put(key))).collect();
    assert_eq!(puts, each_key);
}

#[test]
fn a_key_that_is_not_there_is_told() {
    let etcd = FakeEtcd::start(|_, _| Answer::Message(EMPTY));
    let (json, _, code) = Bench::start(&etcd.url(), &["--seconds", "0.2", "--mix", "get=1"]).end();
    assert_eq!(code, Some(0), "{json}");
    let gets = count(&json, "/get/answered");
    assert!(gets > 0 && count(&json, "/get/nil") == gets, "{json}");
}

#[test]
fn statuses_are_counted_by_their_names_and_the_run_goes_on() {
    let etcd = FakeEtcd::start(|path, number| match number % 20 {
        5 => Answer::Status("14"),
        9 => Answer::Status("8"),
        _ => served(path),
    });
    let (json, _, code) = Bench::start(&etcd.url(), &["--seconds", "0.5", "--mix", "put=1"]).end();
    assert_eq!(code, Some(1), "{json}");
    assert_adds_up(&json);
    for name in ["UNAVAILABLE", "RESOURCE_EXHAUSTED"] {
        assert!(json["errors"][name].as_u64() > Some(0), "{name}: {json}");
    }
    assert_eq!(
        (json["errors"].as_object().map(|errors| errors.len()), count(&json, "/lost_connections")),
        (Some(2), 0)
    );
    assert!(count(&json, "/all/answered") > 10, "{json}");
}

#[test]
fn a_stream_that_is_reset_costs_the_connection_and_the_run_goes_on() {
    let etcd = FakeEtcd::start(|path, number| if number % 500 == 499 { Answer::Reset } else { served(path) });
    let (json, _, code) = Bench::start(&etcd.url(), &["--seconds", "1", "--mix", "put=1"]).end();
    assert_eq!(code, Some(1), "{json}");
    assert_adds_up(&json);
    assert!(count(&json, "/errors/LOST") > 0 && count(&json, "/lost_connections") > 0, "{json}");
    assert!(count(&json, "/all/answered") > 100, "{json}");
}

#[test]
fn what_etcd_never_answers_counts_as_a_timeout_with_its_connection() {
    let etcd = FakeEtcd::start(|_, _| Answer::Hang);
    let (json, _, code) = Bench::start(&etcd.url(), &["--seconds", "1", "--mix", "put=1", "--timeout", "0.2"]).end();
    assert_eq!(code, Some(1), "{json}");
    assert_adds_up(&json);
    assert!(count(&json, "/errors/TIMEOUT") >= 8 && count(&json, "/lost_connections") >= 2, "{json}");
    assert_eq!(json["errors"].as_object().map(|errors| errors.len()), Some(1), "all by the same word: {json}");
}

#[test]
fn what_is_not_grpc_is_counted_too() {
    let etcd = FakeEtcd::start(|_, _| Answer::Message(b"<html>"));
    let (json, _, code) = Bench::start(&etcd.url(), &["--seconds", "0.5", "--mix", "get=1"]).end();
    assert_eq!(code, Some(1), "{json}");
    assert_adds_up(&json);
    assert!(count(&json, "/errors/PROTOCOL") > 0, "{json}");
    assert_eq!(count(&json, "/get/answered"), 0);
}
