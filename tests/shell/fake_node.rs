//! A node that only pretends: it answers each request as the test says, and remembers what it was asked. Sessions it opens by
//! itself, the first with number 7, and of a command in a session the test sees the command.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use raft::client::NodeAddress;
use raft::consensus::NodeId;

/// What a node does with a request.
pub enum Act {
    /// Sends these bytes.
    Say(Vec<u8>),
    /// Never answers this one.
    Hang,
    /// Closes the connection.
    HangUp,
}

type Script = Box<dyn FnMut(&str) -> Act + Send>;

pub struct FakeNode {
    pub id: u64,
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

struct Shared {
    script: Mutex<Script>,
    asked: Mutex<Vec<String>>,
    /// The session and the number of each command that came in one.
    stamps: Mutex<Vec<(u64, u64)>>,
    sessions: AtomicU64,
    connections: Mutex<Vec<TcpStream>>,
    accepted: AtomicUsize,
    stopping: AtomicBool,
}

impl FakeNode {
    /// A node that answers each request, its words joined by blanks, as `script` says.
    pub fn start(id: u64, script: impl FnMut(&str) -> Act + Send + 'static) -> FakeNode {
        let shared = Arc::new(Shared {
            script: Mutex::new(Box::new(script)),
            asked: Mutex::default(),
            stamps: Mutex::default(),
            sessions: AtomicU64::new(7),
            connections: Mutex::default(),
            accepted: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
        });
        let mut node = FakeNode { id, address: ([127, 0, 0, 1], 0).into(), shared, listener: None };
        node.listen();
        node
    }

    /// Where it is, as raft.ini would say.
    pub fn address(&self) -> NodeAddress {
        NodeAddress {
            id: NodeId(self.id),
            label: label(self.id),
            host: self.address.ip().to_string(),
            client_port: self.address.port(),
        }
    }

    /// What it was asked, without the questions for the leader.
    pub fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap().iter().filter(|request| *request != "RAFT LEADER").cloned().collect()
    }

    /// How often it was asked for the leader.
    pub fn asked_for_leader(&self) -> usize {
        self.shared.asked.lock().unwrap().iter().filter(|request| *request == "RAFT LEADER").count()
    }

    /// The session and the number of each command that came in one.
    pub fn stamps(&self) -> Vec<(u64, u64)> {
        self.shared.stamps.lock().unwrap().clone()
    }

    /// How many connections it has had.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Dies: every connection is closed, new ones are refused.
    pub fn stop(&mut self) {
        let Some(listener) = self.listener.take() else { return };
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes the listener.
        let _ = TcpStream::connect(self.address);
        listener.join().unwrap();
        for connection in self.shared.connections.lock().unwrap().drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Comes back, at the same port.
    pub fn restart(&mut self) {
        self.stop();
        self.listen();
    }

    fn listen(&mut self) {
        let listener = TcpListener::bind(self.address).unwrap();
        self.address = listener.local_addr().unwrap();
        let shared = Arc::clone(&self.shared);
        shared.stopping.store(false, Ordering::SeqCst);
        self.listener = Some(thread::spawn(move || {
            for connection in listener.incoming() {
                if shared.stopping.load(Ordering::SeqCst) {
                    return;
                }
                let connection = connection.unwrap();
                shared.accepted.fetch_add(1, Ordering::SeqCst);
                shared.connections.lock().unwrap().push(connection.try_clone().unwrap());
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.serve(connection));
            }
        }));
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn act(&self, request: &str) -> Act {
        if request == "RAFT SESSION" {
            return line(&format!(":{}", self.sessions.fetch_add(1, Ordering::SeqCst)));
        }
        let request = match request.strip_prefix("RAFT DO ").map(|stamped| stamped.splitn(3, ' ').collect::<Vec<_>>()) {
            Some(stamped) => {
                self.stamps.lock().unwrap().push((stamped[0].parse().unwrap(), stamped[1].parse().unwrap()));
                stamped[2]
            }
            None => request,
        };
        self.asked.lock().unwrap().push(request.to_owned());
        (self.script.lock().unwrap())(request)
    }

    /// Until the client goes away or the node stops: then the streams report an error or an end.
    fn serve(&self, connection: TcpStream) {
        let mut input = BufReader::new(&connection);
        while let Ok(Some(request)) = read_request(&mut input) {
            let act = self.act(&request);
            let sent = match act {
                Act::Say(bytes) => (&connection).write_all(&bytes),
                Act::Hang => Ok(()),
                Act::HangUp => connection.shutdown(Shutdown::Both),
            };
            if sent.is_err() {
                return;
            }
        }
    }
}

fn read_request(input: &mut impl BufRead) -> io::Result<Option<String>> {
    let Some(count) = read_length(input)? else { return Ok(None) };
    let mut words = Vec::new();
    for _ in 0..count {
        let Some(length) = read_length(input)? else { return Ok(None) };
        let mut word = vec![0; length + 2];
        input.read_exact(&mut word)?;
        words.push(String::from_utf8_lossy(&word[..length]).into_owned());
    }
    Ok(Some(words.join(" ")))
}

fn read_length(input: &mut impl BufRead) -> io::Result<Option<usize>> {
    let mut line = String::new();
    input.read_line(&mut line)?;
    Ok(line.get(1..).and_then(|length| length.trim_end().parse().ok()))
}

fn label(id: u64) -> String {
    char::from(b'@' + id as u8).to_string()
}

/// A line: a status, an error or a number.
pub fn line(text: &str) -> Act {
    Act::Say(format!("{text}\r\n").into_bytes())
}

/// A string.
pub fn bulk(bytes: &[u8]) -> Act {
    Act::Say([format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat())
}

/// An array of these replies.
pub fn array(parts: impl IntoIterator<Item = Act>) -> Act {
    let parts: Vec<_> =
        parts.into_iter().filter_map(|act| if let Act::Say(bytes) = act { Some(bytes) } else { None }).collect();
    Act::Say([format!("*{}\r\n", parts.len()).into_bytes(), parts.concat()].concat())
}

/// "This node leads."
pub fn leader(id: u64, term: u64) -> Act {
    array([line(&format!(":{id}")), bulk(label(id).as_bytes()), line(&format!(":{term}"))])
}
