//! What the ports of a running cluster endure: random bytes, wrong handshakes, requests at and beyond every limit, peers
//! that stall.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::cluster::{Cluster, rounds, wait_until};
use crate::support::random::Random;

pub fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("a running process has descriptors").count()
}

pub fn resident_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).expect("a process");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it has memory");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number of KiB") << 10
}

fn throw(address: SocketAddr, bytes: &[u8], wait_for_answer: bool) {
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(2)) else { return };
    let _ = stream.write_all(bytes);
    if wait_for_answer {
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        let mut answer = [0; 4096];
        while matches!(stream.read(&mut answer), Ok(1..)) {}
    }
}

#[test]
fn ten_thousand_connections_of_random_bytes_leave_no_trace() {
    let connections = rounds(10_000, 100_000);
    let seed = 7;
    println!("seed {seed}");
    let cluster = Cluster::start(3);
    let leader = cluster.wait_for_leader();
    let client_port = cluster.client_address(leader);
    let peer_port = cluster.peer_address(leader);
    let mut witness = cluster.redis(leader);
    let pid = cluster.pid(leader);
    let before = descriptors(pid);
    let mut random = Random::new(seed);
    let starts: [&[u8]; 6] = [
        b"*1\r\n$4\r\nPING\r\n",
        b"*2147483647\r\n",
        b"*1\r\n$9223372036854775807\r\n",
        b"GET ",
        b"*-5\r\n",
        b"\r\n\r\n",
    ];
    for n in 0..connections {
        let mut bytes = if n % 2 == 0 { starts[random.next() as usize % starts.len()].to_vec() } else { Vec::new() };
        bytes.extend(random.bytes(300));
        throw(if n % 4 < 2 { client_port } else { peer_port }, &bytes, n % 8 < 4);
        if n % 1_000 == 0 {
            redis::cmd("SET").arg("n").arg(n).exec(&mut witness).expect("other connections are unaffected");
        }
    }
    wait_until("every descriptor is closed again", || (descriptors(pid) <= before + 4).then_some(()));
    assert_eq!(cluster.wait_for_leader(), leader, "nothing of that disturbed the cluster");
    let log = cluster.log(leader);
    assert!(!log.contains("panicked"), "{log}");
    assert!(log.lines().count() < 2_000, "rubbish does not fill the log: {} lines", log.lines().count());
}

#[test]
pub fn lengths_that_lie_are_refused_before_memory_is_taken() {
    let cluster = Cluster::start(1);
    cluster.wait_for_leader();
    let pid = cluster.pid(1);
    let before = resident_bytes(pid);
    for request in ["*1000000000\r\n", "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$999999999999\r\n", "*2147483648\r\n", "$5\r\n"] {
        let mut stream = TcpStream::connect(cluster.client_address(1)).expect("the port is open");
        stream.set_read_timeout(Some(crate::support::cluster::PATIENCE)).expect("a timeout can be set");
        stream.write_all(request.as_bytes()).expect("bytes are taken");
        stream.write_all(&[b'x'; 64]).ok();
        stream.shutdown(Shutdown::Write).expect("no more is coming");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("-ERR"), "{request:?} is answered {answer:?}");
    }
    // A peer's frame: any header whose length says 2 GiB.
    for length in [0u64, 1 << 31, u64::MAX] {
        let mut frame = vec![0x52, 0x41, 0x46, 0x54, 1, 0, 0, 0];
        frame.extend(length.to_le_bytes());
        frame.extend([0; 64]);
        throw(cluster.peer_address(1), &frame, true);
    }
    let after = resident_bytes(pid);
    assert!(after < before + (64 << 20), "{before} bytes before, {after} after");
    cluster.client().set(b"k", b"v").expect("the node goes on");
}

#[test]
fn requests_up_to_the_limit_are_served_and_one_byte_more_is_refused() {
    let limit = 256 << 10;
    let cluster = Cluster::with(3, "ElectionTimeout = 500\nMaxRequestBytes = 256KiB\n");
    let leader = cluster.wait_for_leader();
    let follower = cluster.ids().into_iter().find(|&id| id != leader).expect("there are others");
    for id in [leader, follower] {
        let mut node = cluster.redis(id);
        for size in [0, 1, 1_000, limit / 2, limit - 1_000] {
            let value = vec![b'v'; size];
            redis::cmd("SET").arg("k").arg(&value).exec(&mut node).expect("within the limit");
            let got: Vec<u8> = redis::cmd("GET").arg("k").query(&mut node).expect("it reads back");
            assert_eq!(got.len(), size);
        }
        redis::cmd("SET").arg("").arg("empty").exec(&mut node).expect("an empty key is a key");
        let got: String = redis::cmd("GET").arg("").query(&mut node).expect("it reads back");
        assert_eq!(got, "empty");
        let mut other = cluster.redis(id);
        let error =
            redis::cmd("SET").arg("k").arg(vec![b'v'; limit + 1]).exec(&mut other).expect_err("beyond the limit");
        assert!(error.to_string().contains("MaxRequestBytes") || error.is_io_error(), "{error}");
        let length: Vec<u8> = redis::cmd("GET").arg("k").query(&mut node).expect("nothing was lost");
        assert_eq!(length.len(), limit - 1_000, "the refused value had no effect");
    }
}

#[test]
fn a_follower_that_reads_nothing_costs_the_leader_neither_memory_nor_time() {
    let cluster = Cluster::with(3, "ElectionTimeout = 500\nMaxInflightBytes = 4MiB\n");
    let leader = cluster.wait_for_leader();
    let victim = cluster.ids().into_iter().find(|&id| id != leader).expect("there are others");
    let mut client = cluster.client();
    let value = vec![b'x'; 64 << 10];
    for _ in 0..50 {
        client.set(b"warm-up", &value).expect("a write");
    }
    let before = resident_bytes(cluster.pid(leader));
    cluster.pause(victim);
    let began = Instant::now();
    // 64 MiB, of which the leader may keep a few for the follower that sleeps.
    for _ in 0..rounds(1_000, 10_000) {
        client.set(b"k", &value).expect("a majority is enough");
    }
    let took = began.elapsed();
    let after = resident_bytes(cluster.pid(leader));
    println!("1,000 writes of 64 KiB took {took:?}; {before} bytes resident before, {after} after");
    assert!(after < before + (96 << 20), "{before} bytes resident before, {after} after");
    cluster.resume(victim);
    cluster.wait_until_caught_up();
    assert_eq!(cluster.wait_for_leader(), leader);
}

#[test]
fn a_leader_cut_off_from_its_majority_stops_taking_writes() {
    let cluster = Cluster::with(3, "ElectionTimeout = 500\nMaxInflightBytes = 1MiB\n");
    let leader = cluster.wait_for_leader();
    let mut node = cluster.redis(leader);
    for id in cluster.ids().into_iter().filter(|&id| id != leader) {
        cluster.pause(id);
    }
    let mut pipeline = redis::pipe();
    for n in 0..2_000 {
        pipeline.cmd("SET").arg(n).arg(vec![b'x'; 1_000]).ignore();
    }
    let _ = pipeline.exec(&mut node);
    let error = redis::cmd("SET").arg("k").arg("v").exec(&mut node).expect_err("no majority");
    assert!(matches!(error.code(), Some("NOTREADY" | "UNKNOWN" | "OVERLOADED")), "{error}");
    let mut client = cluster.client_with_timeout(Duration::from_secs(2));
    let status = client.status(raft::consensus::NodeId(leader)).expect("a node always shows its status");
    assert!(status.last < status.commit + 2_000, "it stopped appending: {status:?}");
    for id in cluster.ids().into_iter().filter(|&id| id != leader) {
        cluster.resume(id);
    }
    cluster.wait_for_leader();
    cluster.client().set(b"k", b"v").expect("and goes on afterwards");
}

#[test]
pub fn two_thousand_idle_clients_cost_no_threads_and_disturb_nobody() {
    let cluster = Cluster::start(1);
    cluster.wait_for_leader();
    let threads = |pid: u32| std::fs::read_dir(format!("/proc/{pid}/task")).expect("a process").count();
    let pid = cluster.pid(1);
    let before = (threads(pid), resident_bytes(pid));
    let address = cluster.client_address(1);
    let mut idle = Vec::new();
    for _ in 0..2_000 {
        let mut stream = TcpStream::connect(address).expect("there is room");
        stream.write_all(b"PING\r\n").expect("bytes are taken");
        idle.push(stream);
    }
    for stream in &mut idle {
        let mut answer = [0; 7];
        stream.set_read_timeout(Some(crate::support::cluster::PATIENCE)).expect("a timeout can be set");
        stream.read_exact(&mut answer).expect("each is answered");
        assert_eq!(&answer, b"+PONG\r\n");
    }
    assert_eq!(threads(pid), before.0, "no thread per connection");
    let per_client = resident_bytes(pid).saturating_sub(before.1) / 2_000;
    assert!(per_client < 16 << 10, "{per_client} bytes a client");
    cluster.client().set(b"k", b"v").expect("others are served");
}

#[test]
fn clients_that_read_no_answers_cannot_pin_all_memory() {
    let cluster = Cluster::start(1);
    cluster.wait_for_leader();
    let pid = cluster.pid(1);
    cluster.client().set(b"large", &[b'x'; 256 << 10]).expect("a write");
    let before = resident_bytes(pid);
    let clients: Vec<TcpStream> = (0..rounds(20, 100))
        .map(|_| {
            let mut client = TcpStream::connect(cluster.client_address(1)).expect("the port is open");
            // First small answers, so that many more are taken at a time than would be of large ones.
            let pipeline = "GET small\r\n".repeat(2_000) + &"GET large\r\n".repeat(10_000);
            client.set_write_timeout(Some(Duration::from_millis(200))).expect("a timeout can be set");
            let _ = client.write_all(pipeline.as_bytes());
            client
        })
        .collect();
    cluster.client().set(b"k", b"v").expect("others are served");
    let after = resident_bytes(pid);
    println!("{} clients pin {} MiB", clients.len(), after.saturating_sub(before) >> 20);
    assert!(after < before + (1 << 30), "{before} bytes before, {after} after");
    drop(clients);
    // A patient client gets all it asks for, however much it asks for before it reads.
    let mut node = cluster.redis(1);
    let mut pipeline = redis::pipe();
    for _ in 0..400 {
        pipeline.cmd("GET").arg("large");
    }
    let answers: Vec<Vec<u8>> = pipeline.query(&mut node).expect("every value is served");
    assert!(answers.len() == 400 && answers.iter().all(|answer| answer.len() == 256 << 10));
}

#[test]
pub fn clients_cannot_take_the_descriptors_that_the_log_needs() {
    let mut cluster = Cluster::prepare(1, "ElectionTimeout = 500\nSegmentBytes = 256KiB\n");
    cluster.spawn_with_files(1, 600);
    cluster.wait_for_leader();
    let mut node = cluster.redis(1);
    let clients: Vec<TcpStream> =
        (0..1_000).filter_map(|_| TcpStream::connect(cluster.client_address(1)).ok()).collect();
    for n in 0..20 {
        redis::cmd("SET").arg(n).arg(vec![b'x'; 64 << 10]).exec(&mut node).expect("the log finds its files");
    }
    assert!(cluster.log(1).contains("fewer than MaxConnections"), "{}", cluster.log(1));
    drop(clients);
    cluster.client().set(b"k", b"v").expect("others are let in again");
}
