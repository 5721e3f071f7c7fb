//! A process without free descriptors, under both runtimes, in a test program of its own because the limit concerns all of it.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use raft::config::RuntimeKind;
use raft::runtime::session::{Close, Flow, Output, Session};
use raft::runtime::sockets::{Connection, ListenOptions, Seats, SessionFactory, bind};

#[path = "support/runtimes.rs"]
mod runtimes;
#[path = "support/server.rs"]
mod server;

use server::Server;

const PATIENCE: Duration = Duration::from_secs(20);

struct Echo(Arc<Connection>);

impl Session for Echo {
    fn receive(&mut self, input: &mut BytesMut) -> Result<Flow, Close> {
        self.0.write(&input.split());
        self.0.flush();
        Ok(Flow::Continue)
    }
}

fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn is_served(mut stream: &TcpStream) -> bool {
    let mut answer = [0; 4];
    stream.write_all(b"ping").is_ok() && stream.read_exact(&mut answer).is_ok() && answer == *b"ping"
}

/// Processor time of this process in hundredths of a second, from its open `stat` file.
fn processor_ticks(stat: &File) -> u64 {
    let mut buffer = [0; 1024];
    let count = stat.read_at(&mut buffer, 0).unwrap();
    let text = String::from_utf8_lossy(&buffer[..count]);
    let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn running_out_of_descriptors_neither_spins_nor_ends_the_service() {
    // One after the other: they share the limit.
    for runtime in [RuntimeKind::ThreadedRuntime, RuntimeKind::AsyncRuntime] {
        runtimes::use_runtime(runtime);
        run_out_of_descriptors();
    }
}

fn run_out_of_descriptors() {
    let (server, _handle, _inboxes) = Server::start("few", 1);
    let listener = bind("127.0.0.1", 0, "test").unwrap();
    let address = listener.local_addr().unwrap();
    let options = ListenOptions {
        name: "tests".into(),
        seats: Seats::new(1000),
        farewell: Vec::new(),
        max_output_bytes: 1 << 20,
        max_total_output_bytes: 1 << 30,
        keepalive: Duration::from_secs(60),
    };
    let session: SessionFactory = Arc::new(|connection| Box::new(Echo(connection.clone())));
    server.sockets().listen(listener, options, session).unwrap();
    let early = connect(address).unwrap();
    assert!(is_served(&early));

    let stat = File::open("/proc/self/stat").unwrap();
    let limit = std::fs::read_dir("/proc/self/fd").unwrap().count() + 21;
    let pid = std::process::id().to_string();
    let limited = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={limit}:")]).status();
    if !limited.is_ok_and(|status| status.success()) {
        println!("skipped: there is no prlimit here");
        return;
    }
    // Both ends are in this process: the client's end of the last ones takes what the server's end would need.
    let mut clients = Vec::new();
    while let Ok(client) = connect(address) {
        clients.push(client);
    }
    assert!(clients.len() > 5, "{} connections", clients.len());
    assert!(is_served(&early), "those that are connected are served");

    let before = processor_ticks(&stat);
    // There is no event that says "it does not spin": this is the time in which it may not.
    std::thread::sleep(Duration::from_millis(500));
    let spent = processor_ticks(&stat) - before;
    assert!(spent < 20, "{spent} of 50 ticks were spent waiting for descriptors");

    let last = clients.pop().unwrap();
    clients.clear();
    assert!(is_served(&last), "the last one is served once there is room");
}
