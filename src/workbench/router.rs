//! Carries messages: from client to node, between nodes over the network, and back.
//!
//! What a node writes, a thread of its own reads and takes to whom it is for, at once: several lines that were read together and are
//! for one node are one write. Only messages that take time wait for another thread.

use std::io::Read;
use std::process::ChildStdout;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use crossbeam_channel::Sender;
use serde_json::{Value, json};

use super::delay::Delay;
use super::message::Message;
use super::network::Network;
use super::processes::{Launch, Process};

/// The client that sends `init`: the workbench itself.
const CONTROL: u64 = 0;
/// Longest line that a node may write: more than any answer needs.
const LINE_BYTES_MAX: usize = 64 << 20;
/// How much is read at a time.
const READ_BYTES: usize = 64 << 10;

/// What there is to know for whoever asks.
#[derive(Debug)]
pub enum Event {
    /// A node has taken its `init`, in its present life.
    Ready {
        /// Which node.
        node: usize,
    },
    /// A client has an answer.
    Answer {
        /// Which client.
        process: u64,
        /// The `msg_id` that it names.
        in_reply_to: u64,
        /// The body of the answer.
        body: Value,
        /// When it came.
        at: Instant,
    },
    /// A node does what it must not do: the run is over. For people.
    Trouble(String),
}

/// The nodes, and the ways between them. Dropping it kills them.
pub struct Router(Arc<Shared>);

struct Shared {
    names: Vec<String>,
    nodes: Vec<Process>,
    network: Network,
    delay: Delay,
    /// Who neighbours whom, if nodes are told.
    topology: Option<Value>,
    /// How many clients there have been.
    clients: AtomicU64,
    events: Sender<Event>,
}

impl Router {
    /// Nodes that do not run yet, and what happens to them. With `topology`, they are told who their neighbours are.
    ///
    /// # Errors
    /// When there is no thread.
    pub fn new(
        launches: Vec<Launch>,
        network: Network,
        topology: bool,
        events: Sender<Event>,
    ) -> std::io::Result<Router> {
        let names: Vec<_> = (0..launches.len()).map(|node| format!("n{node}")).collect();
        let shared = Arc::new(Shared {
            topology: topology.then(|| grid(&names)),
            names,
            nodes: launches.into_iter().map(Process::new).collect(),
            network,
            delay: Delay::default(),
            clients: AtomicU64::new(CONTROL + 1),
            events,
        });
        let delayed = shared.clone();
        thread::Builder::new().name("delay".into()).spawn(move || delayed.deliver_delayed())?;
        Ok(Router(shared))
    }

    /// Starts a life of a node, without `init`.
    ///
    /// # Errors
    /// When it cannot be started; for people.
    pub fn start(&self, node: usize) -> Result<(), String> {
        let (name, process) = self.0.node(node).ok_or("no such node")?;
        let (life, output) = process.start().map_err(|why| format!("{name}: {why}"))?;
        let shared = self.0.clone();
        let reader = thread::Builder::new().name(format!("lines of {name}"));
        reader.spawn(move || shared.read(node, life, output)).map_err(|error| format!("no thread: {error}"))?;
        Ok(())
    }

    /// Sends a node its `init`; [`Event::Ready`] will tell that it has taken it.
    pub fn init(&self, node: usize) {
        if let Some((name, process)) = self.0.node(node) {
            let body = json!({"type": "init", "msg_id": 1, "node_id": name, "node_ids": self.0.names});
            process.initialise(&line(&format!("c{CONTROL}"), name, &body));
        }
    }

    /// The processes, in order.
    pub fn nodes(&self) -> &[Process] {
        &self.0.nodes
    }

    /// What is between them.
    pub fn network(&self) -> &Network {
        &self.0.network
    }

    /// The number of a new client.
    pub fn client(&self) -> u64 {
        self.0.clients.fetch_add(1, Ordering::Relaxed)
    }

    /// Sends the body of a client's request to a node.
    pub fn request(&self, process: u64, node: usize, body: &Value) {
        if let Some((name, to)) = self.0.node(node) {
            // One that does not run answers nothing, like one that is slow.
            self.0.deliver(to, &line(&format!("c{process}"), name, body));
        }
    }

    /// Ends all nodes.
    pub fn stop(&self) {
        self.0.delay.close();
        for node in &self.0.nodes {
            node.kill();
        }
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Lines for each node that are written together.
struct Batch(Vec<Vec<u8>>);

impl Shared {
    fn node(&self, node: usize) -> Option<(&str, &Process)> {
        Some((self.names.get(node)?, self.nodes.get(node)?))
    }

    /// Carries what a life of a node writes, until it ends or makes trouble.
    fn read(&self, node: usize, life: u64, mut output: ChildStdout) {
        let Some((name, process)) = self.node(node) else { return };
        let mut batch = Batch(vec![Vec::new(); self.nodes.len()]);
        let (mut buffer, mut filled) = (vec![0; READ_BYTES], 0);
        let trouble = loop {
            match buffer.get_mut(filled..).map(|room| output.read(room)) {
                Some(Ok(count @ 1..)) => filled += count,
                Some(Err(error)) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                _ => break process.output_ended(life).map(|how| format!("{name} {how}")),
            }
            let read = buffer.get(..filled).unwrap_or_default();
            let whole = read.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            let lines = read.get(..whole).unwrap_or_default();
            let wrong = lines.split_inclusive(|byte| *byte == b'\n').find_map(|line| {
                self.carry((node, life), line, &mut batch)
                    .err()
                    .map(|why| format!("{name} wrote a line that {why}: {}", excerpt(line)))
            });
            self.deliver_all(&mut batch);
            if wrong.is_some() {
                break wrong;
            }
            buffer.copy_within(whole..filled, 0);
            filled -= whole;
            if filled == buffer.len() {
                if filled > LINE_BYTES_MAX {
                    break Some(format!("{name} wrote a line of more than {LINE_BYTES_MAX} bytes"));
                }
                buffer.resize(2 * filled, 0);
            }
        };
        if let Some(trouble) = trouble {
            // Nobody listens any more when the run is over.
            let _ = self.events.send(Event::Trouble(trouble));
        }
    }

    /// Takes a line to whom it is for. Fails, saying what is wrong with it.
    fn carry(&self, (src, life): (usize, u64), line: &[u8], batch: &mut Batch) -> Result<(), String> {
        let (name, process) = self.node(src).ok_or("comes from nowhere")?;
        let message = Message::parse(name, line)?;
        if !process.is_initialised(life) {
            return Err("comes before init".into());
        }
        if let Some(dest) = self.names.iter().position(|name| *name == message.dest) {
            match self.network.send(src, dest) {
                Some(wait) if wait.is_zero() => batch.add(dest, line),
                Some(wait) => self.delay.push(Instant::now() + wait, src, dest, line.to_vec()),
                None => {}
            }
            return Ok(());
        }
        let client = message.dest.strip_prefix('c').and_then(|number| number.parse().ok());
        match client {
            Some(CONTROL) => self.controlled(src, &message),
            Some(process) if process < self.clients.load(Ordering::Relaxed) => self.answered(process, &message),
            _ => Err(format!("is for {}, whom there is not", message.dest)),
        }
    }

    /// A node answers the workbench.
    fn controlled(&self, node: usize, message: &Message<'_>) -> Result<(), String> {
        let name = self.names.get(node).map_or("", String::as_str);
        match (&*message.kind, &self.topology) {
            ("init_ok", Some(topology)) => {
                let body = json!({"type": "topology", "msg_id": 2, "topology": topology});
                if let Some(process) = self.nodes.get(node) {
                    self.deliver(process, &line(&format!("c{CONTROL}"), name, &body));
                }
            }
            ("init_ok", None) | ("topology_ok", _) => {
                let _ = self.events.send(Event::Ready { node });
            }
            _ => return Err("is no answer to `init` or `topology`".into()),
        }
        Ok(())
    }

    /// A node answers a client.
    fn answered(&self, process: u64, message: &Message<'_>) -> Result<(), String> {
        let at = Instant::now();
        let in_reply_to = message.in_reply_to.ok_or("is for a client and has no `in_reply_to`")?;
        let body =
            serde_json::from_str(message.body.get()).map_err(|error| format!("has a `body` that is none: {error}"))?;
        let _ = self.events.send(Event::Answer { process, in_reply_to, body, at });
        Ok(())
    }

    /// Brings a node lines.
    fn deliver(&self, node: &Process, lines: &[u8]) {
        if !node.deliver(lines) {
            self.network.unread(lines.iter().filter(|byte| **byte == b'\n').count() as u64);
        }
    }

    /// Brings every node its lines.
    fn deliver_all(&self, batch: &mut Batch) {
        for (node, lines) in self.nodes.iter().zip(&mut batch.0).filter(|(_, lines)| !lines.is_empty()) {
            self.deliver(node, lines);
            lines.clear();
        }
    }

    fn deliver_delayed(&self) {
        let mut batch = Batch(vec![Vec::new(); self.nodes.len()]);
        while let Some(due) = self.delay.due() {
            for message in due.iter().filter(|message| self.network.passes(message.src, message.dest)) {
                batch.add(message.dest, &message.line);
            }
            self.deliver_all(&mut batch);
        }
    }
}

impl Batch {
    fn add(&mut self, node: usize, line: &[u8]) {
        if let Some(lines) = self.0.get_mut(node) {
            lines.extend_from_slice(line);
        }
    }
}

fn line(src: &str, dest: &str, body: &Value) -> Vec<u8> {
    format!("{}\n", json!({"src": src, "dest": dest, "body": body})).into_bytes()
}

/// Who neighbours whom: the nodes stand in rows of a square.
fn grid(names: &[String]) -> Value {
    let side = (1..).find(|side| side * side >= names.len()).unwrap_or(1);
    let neighbours = |node: usize| {
        let (row, column) = (node / side, node % side);
        let near = |other: usize| (other / side).abs_diff(row) + (other % side).abs_diff(column) == 1;
        names.iter().enumerate().filter(|(other, _)| near(*other)).map(|(_, name)| name.clone()).collect::<Vec<_>>()
    };
    names.iter().enumerate().map(|(node, name)| (name.clone(), json!(neighbours(node)))).collect()
}

/// The beginning of a line, for people.
fn excerpt(line: &[u8]) -> String {
    const EXCERPT_BYTES: usize = 300;
    let line = line.trim_ascii_end();
    let (start, rest) = line.split_at(line.len().min(EXCERPT_BYTES));
    format!("{:?}{}", String::from_utf8_lossy(start), if rest.is_empty() { "" } else { "..." })
}

#[cfg(test)]
mod tests;
