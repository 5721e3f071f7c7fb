//! A router for nodes that speak Maelstrom's protocol: starts them, carries their messages, and takes note of every
//! line. It cuts links, kills nodes, and checks that nodes write nothing but messages in their own name.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use serde_json::{Value, json};

use super::cluster::runtime;

/// How long nodes may take for what is not measured.
const PATIENCE: Duration = Duration::from_secs(10);

/// Carries messages between nodes and clients, without delay and in order.
pub struct Router {
    shared: Arc<Shared>,
    clients: AtomicU64,
    _guard: MutexGuard<'static, ()>,
}

/// A client of every node.
pub struct Client {
    name: String,
    shared: Arc<Shared>,
    answers: Receiver<Value>,
    next_id: u64,
}

/// No answer came in time: the outcome is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout;

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    nodes: BTreeMap<String, Node>,
    clients: HashMap<String, Sender<Value>>,
    /// Messages from the first to the second are lost.
    blocked: BTreeSet<(String, String)>,
    record: Vec<Value>,
    /// What nodes wrote that they must not write.
    violations: Vec<String>,
}

struct Node {
    /// Lines for the node's input. Without it, the input has been closed.
    input: Option<Sender<String>>,
    /// Disconnected once the node's output has ended.
    ended: Receiver<()>,
    process: Option<Child>,
    /// It has been sent its `init`.
    initialised: bool,
}

impl Router {
    /// A router without nodes.
    pub fn new() -> Self {
        Router { shared: Arc::default(), clients: AtomicU64::new(0), _guard: super::one_at_a_time() }
    }

    /// A router with so many nodes `n1`, `n2`, ..., each a process of this program, initialised.
    pub fn with_processes(count: usize, program: &str, arguments: &[&str]) -> Self {
        let router = Router::new();
        for number in 1..=count {
            let mut command = Command::new(program);
            command.args(arguments).args(runtime().iter().flat_map(|runtime| ["-r", runtime.as_str()]));
            router.start(&format!("n{number}"), &mut command);
        }
        router.init();
        router
    }

    /// Starts a process as the node of this name, in place of one that has ended.
    pub fn start(&self, name: &str, command: &mut Command) {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the program starts");
        let (input, output) = (process.stdin.take().expect("piped"), process.stdout.take().expect("piped"));
        self.attach(name, input, output);
        self.shared.node(name, |node| node.process = Some(process));
    }

    /// Adds a node with this standard input and output.
    pub fn attach(&self, name: &str, mut input: impl Write + Send + 'static, output: impl Read + Send + 'static) {
        let (lines, to_write) = unbounded::<String>();
        thread::spawn(move || {
            for line in to_write {
                // A node that has ended reads no more.
                if input.write_all(line.as_bytes()).and_then(|()| input.flush()).is_err() {
                    break;
                }
            }
        });
        let (running, ended) = unbounded::<()>();
        let (shared, node) = (self.shared.clone(), name.to_owned());
        thread::spawn(move || {
            shared.read(&node, output);
            drop(running);
        });
        let node = Node { input: Some(lines), ended, process: None, initialised: false };
        self.shared.lock().nodes.insert(name.to_owned(), node);
    }

    /// Sends `init` to every node that has not had it, and waits for the answers.
    pub fn init(&self) {
        let names = self.names();
        let mut client = self.client();
        let fresh = |name: &&String| self.shared.node(name, |node| !std::mem::replace(&mut node.initialised, true));
        let fresh: Vec<_> = names.iter().filter(fresh).collect();
        for name in &fresh {
            client.send(name, json!({"type": "init", "node_id": name, "node_ids": names}));
        }
        for _ in fresh {
            let answer = client.answers.recv_timeout(PATIENCE).expect("an answer to init");
            assert_eq!(answer["type"], "init_ok", "{answer}");
        }
    }

    /// All nodes' names, in order.
    pub fn names(&self) -> Vec<String> {
        self.shared.lock().nodes.keys().cloned().collect()
    }

    /// A new client.
    pub fn client(&self) -> Client {
        let name = format!("c{}", self.clients.fetch_add(1, Ordering::Relaxed));
        let (sender, answers) = unbounded();
        self.shared.lock().clients.insert(name.clone(), sender);
        Client { name, shared: self.shared.clone(), answers, next_id: 1 }
    }

    /// Loses all messages between nodes of different groups from now on, and no others.
    pub fn partition(&self, groups: &[&[&str]]) {
        let mut blocked = BTreeSet::new();
        for (number, group) in groups.iter().enumerate() {
            for other in groups.iter().enumerate().filter(|(other, _)| *other != number).flat_map(|(_, group)| *group) {
                blocked.extend(group.iter().map(|node| (node.to_string(), other.to_string())));
            }
        }
        self.shared.lock().blocked = blocked;
    }

    /// Loses no messages from now on.
    pub fn heal(&self) {
        self.shared.lock().blocked.clear();
    }

    /// Kills a node's process, without warning.
    pub fn kill(&self, name: &str) {
        self.kill_all(&[name]);
    }

    /// Kills these nodes' processes at once, without warning.
    pub fn kill_all(&self, names: &[&str]) {
        for name in names {
            self.shared.node(name, |node| node.process.as_mut().expect("a process").kill()).expect("killed");
        }
        for name in names {
            self.wait_for_exit(name);
        }
    }

    /// Ends a node's input.
    pub fn close_input(&self, name: &str) {
        self.shared.node(name, |node| node.input = None);
    }

    /// Waits until a node has closed its output and its process, if it is one, has ended.
    pub fn wait_for_exit(&self, name: &str) -> Option<ExitStatus> {
        let (ended, process) = self.shared.node(name, |node| (node.ended.clone(), node.process.take()));
        let outcome = ended.recv_timeout(PATIENCE);
        assert_eq!(outcome, Err(RecvTimeoutError::Disconnected), "{name} goes on");
        process.map(|mut process| process.wait().expect("an exit status"))
    }

    /// Every message that the nodes wrote so far, those that were lost too.
    pub fn record(&self) -> Vec<Value> {
        self.shared.lock().record.clone()
    }

    /// What the nodes wrote so far that they must not write.
    pub fn violations(&self) -> Vec<String> {
        self.shared.lock().violations.clone()
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        for process in self.shared.lock().nodes.values_mut().filter_map(|node| node.process.as_mut()) {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Client {
    /// Sends a request and waits for its answer. Answers to earlier requests are dropped.
    pub fn request(&mut self, node: &str, body: Value, timeout: Duration) -> Result<Value, Timeout> {
        let deadline = Instant::now() + timeout;
        let id = self.send(node, body);
        loop {
            let answer = self.answers.recv_deadline(deadline).map_err(|_| Timeout)?;
            if answer["in_reply_to"] == json!(id) {
                return Ok(answer);
            }
        }
    }

    /// Sends a request and returns its `msg_id`.
    pub fn send(&mut self, node: &str, mut body: Value) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        body["msg_id"] = json!(id);
        let message = json!({"src": self.name, "dest": node, "body": body});
        self.shared.lock().deliver(node, &message);
        id
    }

    /// The next answer to a request that was [sent](Client::send).
    pub fn answer(&self, timeout: Duration) -> Result<Value, Timeout> {
        self.answers.recv_timeout(timeout).map_err(|_| Timeout)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn node<T>(&self, name: &str, action: impl FnOnce(&mut Node) -> T) -> T {
        action(self.lock().nodes.get_mut(name).expect("a node of this name"))
    }

    /// Carries what a node writes, until the end of its output.
    fn read(&self, node: &str, output: impl Read) {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        while output.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            let mut state = self.lock();
            match state.check(node, &line) {
                Ok(message) => {
                    state.carry(&message);
                    state.record.push(message);
                }
                Err(why) => {
                    let line = String::from_utf8_lossy(&line);
                    state.violations.push(format!("{node} wrote a line that {why}: {line:?}"));
                }
            }
            drop(state);
            line.clear();
        }
    }
}

impl State {
    /// The message in a line. Fails, saying what is wrong with it, where Maelstrom would end the test.
    fn check(&self, node: &str, line: &[u8]) -> Result<Value, String> {
        let message: Value = serde_json::from_slice(line).map_err(|error| format!("is not JSON: {error}"))?;
        let dest = message["dest"].as_str().ok_or("has no dest")?;
        if message["src"].as_str() != Some(node) {
            return Err("is not in its name".into());
        }
        if !self.nodes.contains_key(dest) && !self.clients.contains_key(dest) {
            return Err("is for nobody".into());
        }
        if !message["body"]["type"].is_string() {
            return Err("has no type".into());
        }
        if !self.nodes.get(node).is_some_and(|node| node.initialised) {
            return Err("comes before init".into());
        }
        if line.last() != Some(&b'\n') {
            return Err("has no end".into());
        }
        Ok(message)
    }

    fn carry(&self, message: &Value) {
        let (src, dest) = (message["src"].as_str().unwrap_or(""), message["dest"].as_str().unwrap_or(""));
        if let Some(client) = self.clients.get(dest) {
            // The client may have left.
            let _ = client.send(message["body"].clone());
        } else if !self.blocked.contains(&(src.to_owned(), dest.to_owned())) {
            self.deliver(dest, message);
        }
    }

    fn deliver(&self, node: &str, message: &Value) {
        if let Some(input) = self.nodes.get(node).and_then(|node| node.input.as_ref()) {
            // The node may have ended.
            let _ = input.send(format!("{message}\n"));
        }
    }
}
