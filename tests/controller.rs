//! Sockets with small sessions, under both runtimes: many clients, pauses, half-closed and rude ones.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use crossbeam_channel::{Receiver, Sender};
use raft::runtime::Input;
use raft::runtime::session::{Close, Flow, Output, Session};
use raft::runtime::sockets::{Connection, ListenOptions, Seats, SessionFactory, bind};

#[path = "support/runtimes.rs"]
mod runtimes;
#[path = "support/server.rs"]
mod server;

use server::Server;

under_both! {
    two_thousand_idle_clients_cost_no_threads_and_no_wake_ups,
    long_pipelines_come_back_whole_and_in_order,
    those_who_read_nothing_cannot_take_all_memory_together,
    a_paused_session_goes_on_without_new_input,
    a_session_is_called_at_its_time_and_told_of_its_clients_end,
    a_half_closed_client_gets_its_answers,
    a_client_that_gathers_small_packets_need_not_wait_for_answers,
    what_was_answered_before_the_end_arrives,
    a_client_that_never_reads_is_cut_off_at_the_limit_and_harms_nobody,
    what_the_socket_does_not_take_at_once_goes_out_later,
    a_flood_does_not_starve_others,
    too_many_connections_are_told_so_and_their_places_are_freed,
    a_session_that_gets_on_is_asked_again_soon,
    a_worker_does_not_end_unnoticed,
}

const PATIENCE: Duration = Duration::from_secs(20);

fn server(name: &str, workers: usize) -> Server {
    Server::start(name, workers).0
}

fn listen_options() -> ListenOptions {
    ListenOptions {
        name: "tests".into(),
        seats: Seats::new(10_000),
        farewell: b"too many\n".to_vec(),
        max_output_bytes: 1 << 20,
        max_total_output_bytes: 1 << 30,
        keepalive: Duration::from_secs(60),
    }
}

fn serve<S: Session + 'static>(
    server: &Server,
    options: ListenOptions,
    session: impl Fn(&Arc<Connection>) -> S + Send + Sync + 'static,
) -> SocketAddr {
    let listener = bind("127.0.0.1", 0, "test").unwrap();
    let address = listener.local_addr().unwrap();
    let session: SessionFactory = Arc::new(move |connection| Box::new(session(connection)));
    server.sockets().listen(listener, options, session).unwrap();
    address
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn ask(mut stream: &TcpStream, line: &str) -> String {
    stream.write_all(line.as_bytes()).unwrap();
    let mut answer = vec![0; line.len()];
    stream.read_exact(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

/// Everything until the other side closes; a reset counts as closing.
fn rest(mut stream: &TcpStream) -> String {
    let mut bytes = Vec::new();
    if let Err(error) = stream.read_to_end(&mut bytes) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn take_line(input: &mut BytesMut) -> Option<Vec<u8>> {
    let end = input.iter().position(|byte| *byte == b'\n')?;
    Some(input.split_to(end + 1).to_vec())
}

/// Answers every line with itself; `quit` closes, `bad` breaks the protocol.
struct Echo(Arc<Connection>);

impl Session for Echo {
    fn receive(&mut self, input: &mut BytesMut) -> Result<Flow, Close> {
        while let Some(line) = take_line(input) {
            self.0.write(&line);
            match &line[..] {
                b"quit\n" => return Err(Close::Requested),
                b"bad\n" => return Err(Close::Broken("it was bad".into())),
                _ => {}
            }
        }
        self.0.flush();
        Ok(Flow::Continue)
    }
}

/// What a client has said, and where its answer goes.
type Line = (Arc<Connection>, Vec<u8>);

/// Hands every line to the test, which answers when it likes.
struct Deferred {
    connection: Arc<Connection>,
    lines: Sender<Line>,
    outstanding: Arc<AtomicUsize>,
}

impl Session for Deferred {
    fn receive(&mut self, input: &mut BytesMut) -> Result<Flow, Close> {
        while let Some(line) = take_line(input) {
            self.outstanding.fetch_add(1, Ordering::SeqCst);
            self.lines.send((self.connection.clone(), line)).unwrap();
        }
        Ok(Flow::Continue)
    }

    fn finished(&self) -> bool {
        self.outstanding.load(Ordering::SeqCst) == 0
    }

    fn wants_acknowledgement(&self) -> bool {
        self.outstanding.load(Ordering::SeqCst) > 1
    }
}

/// Where to connect, what the clients say, and how many of their lines are unanswered.
fn serve_deferred(server: &Server) -> (SocketAddr, Receiver<Line>, Arc<AtomicUsize>) {
    let outstanding = Arc::new(AtomicUsize::new(0));
    let (lines, received) = crossbeam_channel::unbounded();
    let count = outstanding.clone();
    let address = serve(server, listen_options(), move |connection| Deferred {
        connection: connection.clone(),
        lines: lines.clone(),
        outstanding: count.clone(),
    });
    (address, received, outstanding)
}

/// How often the threads whose names begin like this have gone to sleep.
fn sleeps(prefix: &str) -> u64 {
    let mut total = 0;
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let path = task.unwrap().path();
        if std::fs::read_to_string(path.join("comm")).unwrap_or_default().starts_with(prefix) {
            let status = std::fs::read_to_string(path.join("status")).unwrap();
            let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap();
            total += line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap();
        }
    }
    total
}

fn two_thousand_idle_clients_cost_no_threads_and_no_wake_ups() {
    let server = server("many", 2);
    let address = serve(&server, listen_options(), |connection| Echo(connection.clone()));
    let clients: Vec<TcpStream> = (0..2000).map(|_| connect(address)).collect();
    for (number, client) in clients.iter().enumerate() {
        let line = format!("hello {number}\n");
        assert_eq!(ask(client, &line), line);
    }
    let threads = std::fs::read_dir("/proc/self/task").unwrap().count();
    assert!(threads < 200, "{threads} threads");

    let before = sleeps("many-");
    assert!(before > 0);
    // There is no event that says "nothing happens": this is the time in which nothing may.
    std::thread::sleep(Duration::from_millis(300));
    let woken = sleeps("many-") - before;
    assert!(woken <= 2, "idle workers woke up {woken} times, beyond going to sleep once each");

    for round in 0..50 {
        for client in clients.iter().step_by(100) {
            let line = format!("again {round}\n");
            assert_eq!(ask(client, &line), line);
        }
    }
    drop(server);
    assert_eq!(rest(&clients[7]), "", "stopping closes every connection");
}

fn long_pipelines_come_back_whole_and_in_order() {
    let server = server("pipe", 2);
    let options = ListenOptions { max_output_bytes: 64 << 20, ..listen_options() };
    let address = serve(&server, options, |connection| Echo(connection.clone()));
    let client = connect(address);
    let text: String = (0..400_000).map(|number| format!("line {number}\n")).collect();
    let writer = {
        let (mut client, text) = (client.try_clone().unwrap(), text.clone());
        std::thread::spawn(move || {
            client.write_all(text.as_bytes()).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        })
    };
    assert!(rest(&client) == text, "the answers differ");
    writer.join().unwrap();
}

fn those_who_read_nothing_cannot_take_all_memory_together() {
    const ANSWER: usize = 16 << 20;
    struct Generous(Arc<Connection>);
    impl Session for Generous {
        fn receive(&mut self, input: &mut BytesMut) -> Result<Flow, Close> {
            input.clear();
            self.0.write(&vec![b'x'; ANSWER]);
            self.0.flush();
            Ok(Flow::Continue)
        }
    }
    let server = server("together", 1);
    let options =
        ListenOptions { max_output_bytes: 2 * ANSWER, max_total_output_bytes: ANSWER * 3 / 2, ..listen_options() };
    let address = serve(&server, options, |connection| Generous(connection.clone()));
    let ask = || {
        let mut client = connect(address);
        client.write_all(b"?").unwrap();
        client.peek(&mut [0]).map(|_| client)
    };
    let patient = ask().expect("there is room");
    let mut refused = connect(address);
    refused.write_all(b"?").unwrap();
    assert_eq!(refused.read(&mut [0]).unwrap_or(0), 0, "closed, since there is no room for its answer");
    patient.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&patient).len(), ANSWER, "the first gets all of it");
    let next = ask().expect("there is room again");
    next.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&next).len(), ANSWER);
}

fn a_paused_session_goes_on_without_new_input() {
    struct Gated {
        echo: Echo,
        open: Arc<AtomicBool>,
        refused: Sender<()>,
    }
    impl Session for Gated {
        fn receive(&mut self, input: &mut BytesMut) -> Result<Flow, Close> {
            if self.open.load(Ordering::SeqCst) {
                return self.echo.receive(input);
            }
            let _ = self.refused.send(());
            Ok(Flow::Pause)
        }
    }
    let server = server("pause", 1);
    let (open, (refused, was_refused)) = (Arc::new(AtomicBool::new(false)), crossbeam_channel::unbounded());
    let gate = open.clone();
    let address = serve(&server, listen_options(), move |connection| Gated {
        echo: Echo(connection.clone()),
        open: gate.clone(),
        refused: refused.clone(),
    });
    let mut client = connect(address);
    client.write_all(b"one\n").unwrap();
    for _ in 0..3 {
        was_refused.recv_timeout(PATIENCE).expect("it is tried again and again");
    }
    client.write_all(b"two\n").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    open.store(true, Ordering::SeqCst);
    assert_eq!(rest(&client), "one\ntwo\n", "nothing that arrived meanwhile is lost, not even the end");
}

/// Says when it was called, and when its client ended.
struct Patient {
    connection: Arc<Connection>,
    until: Option<Instant>,
}

impl Session for Patient {
    fn receive(&mut self, input: &mut BytesMut) -> Result<Flow, Close> {
        if take_line(input).is_some() {
            self.until = Some(Instant::now() + Duration::from_millis(50));
        }
        match self.until {
            Some(until) if until <= Instant::now() => {
                self.until = None;
                self.connection.write(b"now\n");
                self.connection.flush();
                Ok(Flow::Continue)
            }
            Some(until) => Ok(Flow::Until(until)),
            None => Ok(Flow::Continue),
        }
    }

    fn client_ended(&mut self) {
        self.connection.write(b"bye\n");
        self.connection.flush();
    }
}

fn a_session_is_called_at_its_time_and_told_of_its_clients_end() {
    let server = server("patient", 1);
    let address =
        serve(&server, listen_options(), |connection| Patient { connection: connection.clone(), until: None });
    let stream = connect(address);
    for _ in 0..3 {
        let began = Instant::now();
        assert_eq!(ask(&stream, "now\n"), "now\n");
        assert!(began.elapsed() >= Duration::from_millis(50));
    }
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(rest(&stream).starts_with("bye\n"));
}

fn a_half_closed_client_gets_its_answers() {
    let server = server("half", 1);
    let (address, received, outstanding) = serve_deferred(&server);
    let mut client = connect(address);
    client.write_all(b"a\nb\nincomplete").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    for _ in 0..2 {
        let (connection, line) = received.recv_timeout(PATIENCE).unwrap();
        connection.write(&line);
        connection.flush();
        outstanding.fetch_sub(1, Ordering::SeqCst);
    }
    assert_eq!(rest(&client), "a\nb\n");
}

/// Nagle's algorithm (RFC 896) keeps small packets back until everything before them is acknowledged.
fn a_client_that_gathers_small_packets_need_not_wait_for_answers() {
    const ROUNDS: u32 = 100;
    let server = server("nagle", 1);
    let (address, received, outstanding) = serve_deferred(&server);
    let mut client = connect(address);
    client.set_nodelay(false).unwrap();
    let began = Instant::now();
    for _ in 0..ROUNDS {
        let mut answers = Vec::new();
        for (text, count) in [("a\nb\n", 2), ("c\n", 1)] {
            client.write_all(text.as_bytes()).unwrap();
            answers.extend((0..count).map(|_| received.recv_timeout(PATIENCE).unwrap()));
        }
        outstanding.store(0, Ordering::SeqCst);
        for (connection, line) in answers {
            connection.write(&line);
            connection.flush();
        }
        let mut echo = [0; 6];
        client.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"a\nb\nc\n");
    }
    // An acknowledgement that waits for an answer waits for 40 ms at least.
    if cfg!(target_os = "linux") {
        assert!(began.elapsed() < ROUNDS * Duration::from_millis(20), "{:?}", began.elapsed());
    }
}

fn what_was_answered_before_the_end_arrives() {
    let server = server("end", 1);
    let address = serve(&server, listen_options(), |connection| Echo(connection.clone()));
    for (text, expected) in [("a\nquit\nb\n", "a\nquit\n"), ("a\nbad\nb\n", "a\nbad\n")] {
        let mut client = connect(address);
        client.write_all(text.as_bytes()).unwrap();
        // More than was read when the session closed: it must not destroy the answers.
        client.write_all(&[b'x'; 50_000]).unwrap();
        let mut answers = vec![0; expected.len()];
        client.read_exact(&mut answers).unwrap();
        assert_eq!(String::from_utf8(answers).unwrap(), expected);
        assert_eq!(rest(&client), "");
    }
}

fn a_client_that_never_reads_is_cut_off_at_the_limit_and_harms_nobody() {
    let server = server("slow", 1);
    let (made, connections) = crossbeam_channel::unbounded();
    let address = serve(&server, listen_options(), move |connection| {
        let _ = made.send(connection.clone());
        Echo(connection.clone())
    });
    let (slow, other) = (connect(address), connect(address));
    let connection = connections.recv_timeout(PATIENCE).unwrap();
    let mut most = 0;
    while connection.is_open() {
        connection.write(&[b'x'; 10_000]);
        connection.flush();
        most = most.max(connection.queued());
    }
    assert!(most <= 1 << 20, "{most} bytes were queued");
    connection.write(b"swallowed");
    assert_eq!(connection.queued(), 0);
    assert_eq!(ask(&other, "still there?\n"), "still there?\n");
    drop(slow);
}

fn what_the_socket_does_not_take_at_once_goes_out_later() {
    let server = server("later", 1);
    let (made, connections) = crossbeam_channel::unbounded();
    let options = ListenOptions { max_output_bytes: 64 << 20, ..listen_options() };
    let address = serve(&server, options, move |connection| {
        let _ = made.send(connection.clone());
        Echo(connection.clone())
    });
    let mut client = connect(address);
    let connection = connections.recv_timeout(PATIENCE).unwrap();
    let bytes: Vec<u8> = (0..20 << 20).map(|number: u32| (number / 7) as u8).collect();
    connection.write(&bytes);
    connection.flush();
    assert!(connection.queued() > 0, "more than a socket takes");
    let mut received = vec![0; bytes.len()];
    client.read_exact(&mut received).unwrap();
    assert!(received == bytes, "the bytes differ");
    // The client may have it all before the last `send` has returned; this waits for that.
    connection.flush();
    assert_eq!(connection.queued(), 0);
}

fn a_flood_does_not_starve_others() {
    let server = server("flood", 1);
    struct Sink;
    impl Session for Sink {
        fn receive(&mut self, input: &mut BytesMut) -> Result<Flow, Close> {
            input.clear();
            Ok(Flow::Continue)
        }
    }
    let sink = serve(&server, listen_options(), |_| Sink);
    let echo = serve(&server, listen_options(), |connection| Echo(connection.clone()));
    let stop = Arc::new(AtomicBool::new(false));
    let floods: Vec<_> = (0..2)
        .map(|_| {
            let (mut stream, stop) = (connect(sink), stop.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    stream.write_all(&[0; 256 << 10]).unwrap();
                }
            })
        })
        .collect();
    let (client, began) = (connect(echo), Instant::now());
    for _ in 0..100 {
        assert_eq!(ask(&client, "ping\n"), "ping\n");
    }
    let elapsed = began.elapsed();
    stop.store(true, Ordering::SeqCst);
    floods.into_iter().for_each(|flood| flood.join().unwrap());
    assert!(elapsed < Duration::from_secs(5), "100 questions took {elapsed:?}");
}

fn too_many_connections_are_told_so_and_their_places_are_freed() {
    let server = server("full", 2);
    let options = ListenOptions { seats: Seats::new(3), ..listen_options() };
    let address = serve(&server, options, |connection| Echo(connection.clone()));
    let clients: Vec<TcpStream> = (0..3).map(|_| connect(address)).collect();
    clients.iter().for_each(|client| assert_eq!(ask(client, "a\n"), "a\n"));
    assert_eq!(rest(&connect(address)), "too many\n");
    drop(clients);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut client = connect(address);
        // The place may not be free yet: then the farewell comes.
        if client.write_all(b"quit\n").is_ok() && rest(&client) == "quit\n" {
            break;
        }
        assert!(Instant::now() < deadline, "the places are not freed");
    }
}

#[test]
fn a_port_in_use_is_explained() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = bind("127.0.0.1", port, "Port of node A").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    let expected = format!("cannot listen on 127.0.0.1:{port} (Port of node A): Address already in use");
    let text = error.to_string();
    assert!(text.starts_with(&expected) && text.ends_with("is another node already running?"), "{text}");
}

/// Has room for one byte at a time.
struct OneByOne(Arc<Connection>);

impl Session for OneByOne {
    fn receive(&mut self, input: &mut BytesMut) -> Result<Flow, Close> {
        if input.is_empty() {
            return Ok(Flow::Continue);
        }
        self.0.write(&input.split_to(1));
        self.0.flush();
        Ok(Flow::Pause)
    }
}

fn a_session_that_gets_on_is_asked_again_soon() {
    let server = server("one-by-one", 1);
    let address = serve(&server, listen_options(), |connection| OneByOne(connection.clone()));
    let began = Instant::now();
    assert_eq!(ask(&connect(address), &"x".repeat(500)).len(), 500);
    // With the longest pause each time it takes 16 seconds, with the shortest half a second.
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

struct Panicking;

impl Session for Panicking {
    fn receive(&mut self, _: &mut BytesMut) -> Result<Flow, Close> {
        panic!("a defect");
    }
}

fn a_worker_does_not_end_unnoticed() {
    let (server, _handle, inboxes) = Server::start("defective", 1);
    let address = serve(&server, listen_options(), |_| Panicking);
    let client = connect(address);
    (&client).write_all(b"x").unwrap();
    let Ok(Input::Failed { reason }) = inboxes.internal.recv_timeout(PATIENCE) else { panic!("the node is told") };
    let expected = ["the defective-io-0 thread panicked", "the connection task panicked"];
    assert!(expected.contains(&reason.as_str()), "{reason}");
    assert_eq!(rest(&client), "", "its connections are closed");
}
