//! A cluster of real processes for tests: started, killed, paused, restarted, and asked.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use raft::client::Client;
use raft::config::Config;
use rustix::process::{Pid, Signal, kill_process};

/// How long a test waits for anything that should happen at once.
pub const PATIENCE: Duration = Duration::from_secs(20);

static CLUSTERS: AtomicU8 = AtomicU8::new(0);

/// `short` rounds usually, `long` ones under `cargo xtask nightly`.
pub fn rounds(short: usize, long: usize) -> usize {
    match std::env::var("RAFT_TEST_PROFILE").as_deref() {
        Ok("nightly") => long,
        _ => short,
    }
}

thread_local! {
    static RUNTIME: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// From now on the nodes that this thread prepares run on this runtime.
pub fn use_runtime(name: &'static str) {
    RUNTIME.set(Some(name));
}

/// What nodes run on, if a test or `RAFT_TEST_RUNTIME` says so; else the default.
pub fn runtime() -> Option<String> {
    RUNTIME.get().map(str::to_owned).or_else(|| std::env::var("RAFT_TEST_RUNTIME").ok())
}

/// A loopback address that no other cluster has.
fn own_host() -> Ipv4Addr {
    let process = std::process::id();
    let cluster = CLUSTERS.fetch_add(1, Ordering::Relaxed).wrapping_add(1).max(1);
    Ipv4Addr::new(127, 1 + (process >> 8) as u8 % 250, process as u8, cluster)
}

/// A cluster of `raft` processes on a loopback address of its own, so that clusters never meet.
pub struct Cluster {
    folder: tempfile::TempDir,
    ini: PathBuf,
    config: Config,
    processes: Vec<Option<Child>>,
    _guard: MutexGuard<'static, ()>,
}

impl Cluster {
    /// Starts so many nodes with an election timeout of 500 ms, calm enough for a machine of two cores.
    pub fn start(nodes: usize) -> Self {
        Self::with(nodes, "ElectionTimeout = 500\nHeartbeatInterval = 50\n")
    }

    /// Starts so many nodes with these lines in `[Cluster]`.
    pub fn with(nodes: usize, settings: &str) -> Self {
        let mut cluster = Self::prepare(nodes, settings);
        for id in cluster.ids() {
            cluster.spawn(id);
        }
        cluster
    }

    /// Starts the nodes of `scenarios/NAME.ini`.
    pub fn of_scenario(name: &str) -> Self {
        let mut cluster = Self::prepare_scenario(name);
        for id in cluster.ids() {
            cluster.spawn(id);
        }
        cluster
    }

    /// Takes over `scenarios/NAME.ini` but starts nothing.
    pub fn prepare_scenario(name: &str) -> Self {
        let guard = super::one_at_a_time();
        let file = format!("{}/scenarios/{name}.ini", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(file).expect("the scenario is there");
        assert!(text.contains("Host = 127.0.0.1\n"), "{text}");
        Self::of_text(&text.replace("Host = 127.0.0.1\n", &format!("Host = {}\n", own_host())), guard)
    }

    /// Writes raft.ini but starts nothing.
    pub fn prepare(nodes: usize, settings: &str) -> Self {
        let guard = super::one_at_a_time();
        let host = own_host();
        let mut text = format!("[Cluster]\nNodeCount = {nodes}\nDataDirectory = data\n{settings}\n[Nodes]\n");
        for id in 1..=nodes {
            text += &format!("Node{id} = {}\n", label(id as u64));
        }
        for id in 1..=nodes {
            let label = label(id as u64);
            text += &format!("[Node.{label}]\nLabel = {label}\nId = {id}\nHost = {host}\nPort = {}\n", 3110 + id);
        }
        Self::of_text(&text, guard)
    }

    fn of_text(text: &str, guard: MutexGuard<'static, ()>) -> Self {
        let runtime = runtime().map_or(String::new(), |runtime| format!("Runtime = {runtime}\n"));
        let text = text.replacen("[Cluster]\n", &format!("[Cluster]\n{runtime}"), 1);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let ini = folder.path().join("raft.ini");
        std::fs::write(&ini, &text).expect("raft.ini is written");
        let config = Config::load(&ini).expect("raft.ini is valid");
        let processes = config.nodes.iter().map(|_| None).collect();
        Cluster { folder, ini, config, processes, _guard: guard }
    }

    pub fn ids(&self) -> Vec<u64> {
        (1..=self.processes.len() as u64).collect()
    }

    pub fn ini(&self) -> &Path {
        &self.ini
    }

    fn log_file(&self, id: u64) -> PathBuf {
        self.folder.path().join(format!("{}.log", label(id)))
    }

    /// Everything the node has logged since the test began.
    pub fn log(&self, id: u64) -> String {
        std::fs::read_to_string(self.log_file(id)).unwrap_or_default()
    }

    /// Starts a node that is not running.
    pub fn spawn(&mut self, id: u64) {
        self.spawn_raft(id, Command::new(env!("CARGO_BIN_EXE_raft")));
    }

    /// Starts a node that comes back as another incarnation.
    pub fn rejoin(&mut self, id: u64) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_raft"));
        command.arg("--rejoin");
        self.spawn_raft(id, command);
    }

    /// Waits until a node has ended by itself.
    pub fn await_end(&mut self, id: u64) -> ExitStatus {
        let mut child = self.processes[id as usize - 1].take().expect("the node runs");
        wait_until("the node ends", || child.try_wait().expect("the process can be waited for"))
    }

    /// The node's data folder.
    pub fn data_folder(&self, id: u64) -> PathBuf {
        Path::new(&self.config.data_directory).join(label(id))
    }

    /// Starts a node that may open so many files.
    pub fn spawn_with_files(&mut self, id: u64, files: u32) {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -n {files} && exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_raft")]);
        self.spawn_raft(id, shell);
    }

    fn spawn_raft(&mut self, id: u64, mut command: Command) {
        command.arg("-c").arg(&self.ini).args(["-n", &id.to_string()]);
        self.spawn_by(id, command);
    }

    /// Starts a node by a command that knows which one it is.
    pub fn spawn_by(&mut self, id: u64, mut command: Command) {
        let log = OpenOptions::new().create(true).append(true).open(self.log_file(id)).expect("a log file");
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create("/dev/null").expect("/dev/null"))
            .stderr(log)
            .spawn()
            .expect("raft starts");
        self.processes[id as usize - 1] = Some(child);
    }

    pub fn is_running(&self, id: u64) -> bool {
        self.processes[id as usize - 1].is_some()
    }

    pub fn running(&self) -> Vec<u64> {
        self.ids().into_iter().filter(|&id| self.is_running(id)).collect()
    }

    pub fn pid(&self, id: u64) -> u32 {
        self.processes[id as usize - 1].as_ref().expect("the node runs").id()
    }

    fn signal(&self, id: u64, signal: Signal) {
        let pid = Pid::from_raw(self.pid(id) as i32).expect("a process id");
        kill_process(pid, signal).expect("the signal is delivered");
    }

    /// kill -9.
    pub fn kill(&mut self, id: u64) {
        self.kill_at_once(&[id]);
    }

    /// kill -9 for all of them, before any of them is waited for.
    pub fn kill_at_once(&mut self, ids: &[u64]) {
        let take = |id: &u64| self.processes[*id as usize - 1].take().expect("the node runs");
        let mut children: Vec<Child> = ids.iter().map(take).collect();
        children.iter_mut().for_each(|child| child.kill().expect("the process is killed"));
        for child in &mut children {
            child.wait().expect("the process is gone");
        }
    }

    /// Returns when all threads of the node have stopped: one that waits for the disk ends its system call first.
    pub fn pause(&self, id: u64) {
        self.signal(id, Signal::STOP);
        let tasks = format!("/proc/{}/task", self.pid(id));
        wait_until("every thread has stopped", || {
            let mut tasks = std::fs::read_dir(&tasks).expect("the process's threads").filter_map(Result::ok);
            let has_stopped = |stat: String| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" T"));
            tasks.all(|task| std::fs::read_to_string(task.path().join("stat")).is_ok_and(has_stopped)).then_some(())
        });
    }

    pub fn resume(&self, id: u64) {
        self.signal(id, Signal::CONT);
    }

    /// SIGTERM; the exit status and how long the node took.
    pub fn terminate(&mut self, id: u64) -> (ExitStatus, Duration) {
        let began = Instant::now();
        self.signal(id, Signal::TERM);
        let mut child = self.processes[id as usize - 1].take().expect("the node runs");
        let status = wait_until("the node stops", || child.try_wait().expect("the process can be waited for"));
        (status, began.elapsed())
    }

    pub fn client(&self) -> Client {
        self.client_with_timeout(PATIENCE)
    }

    pub fn client_with_timeout(&self, timeout: Duration) -> Client {
        Client::from_config(&self.config, timeout)
    }

    pub fn client_address(&self, id: u64) -> SocketAddr {
        let node = &self.config.nodes[id as usize - 1];
        format!("{}:{}", node.host, node.client_port).parse().expect("an address")
    }

    pub fn http_address(&self, id: u64) -> SocketAddr {
        let node = &self.config.nodes[id as usize - 1];
        format!("{}:{}", node.host, node.http_port).parse().expect("an address")
    }

    pub fn peer_address(&self, id: u64) -> SocketAddr {
        let node = &self.config.nodes[id as usize - 1];
        format!("{}:{}", node.host, node.port).parse().expect("an address")
    }

    /// A connection of the `redis` crate to one node, which must be up or coming up.
    pub fn redis(&self, id: u64) -> redis::Connection {
        let url = format!("redis://{}/", self.client_address(id));
        let client = redis::Client::open(url).expect("a redis URL");
        let connection =
            wait_until("the client port answers", || client.get_connection_with_timeout(Duration::from_secs(2)).ok());
        connection.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        connection
    }

    /// Fails the test if a node that should run has ended by itself.
    #[track_caller]
    pub fn assert_all_run(&self) {
        for id in self.running() {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid(id))).unwrap_or_default();
            // A process that has ended and was not waited for is a zombie.
            assert!(!stat.contains(") Z "), "node {id} has ended by itself");
        }
    }

    /// Waits until every running node knows the same leader, which runs and says so itself.
    pub fn wait_for_leader(&self) -> u64 {
        let running = self.running();
        let mut client = self.client_with_timeout(Duration::from_secs(1));
        wait_until("a leader is elected", || {
            self.assert_all_run();
            let mut leaders: Vec<u64> = Vec::new();
            for (_, status) in client.status_of_all().iter().filter(|(node, _)| running.contains(&node.id.0)) {
                leaders.push(status.as_ref().ok()?.leader?.0);
            }
            leaders.dedup();
            match leaders[..] {
                [leader] if running.contains(&leader) => Some(leader),
                _ => None,
            }
        })
    }

    /// All keys and their values, as the leader lists them.
    pub fn stored(&self) -> BTreeMap<String, String> {
        let mut client = self.client();
        let mut all = BTreeMap::new();
        let mut after: Option<bytes::Bytes> = None;
        loop {
            let page = client.list(b"", after.as_deref()).expect("the leader lists what is stored");
            let Some((last, _)) = page.last() else { return all };
            after = Some(last.clone());
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            all.extend(page.iter().map(|(key, value)| (text(key), text(&value.bytes))));
        }
    }

    /// Waits until every running node has applied everything that is committed.
    pub fn wait_until_caught_up(&self) {
        let running = self.running();
        let mut client = self.client_with_timeout(Duration::from_secs(1));
        wait_until("every node has applied everything", || {
            self.assert_all_run();
            let status = client.status_of_all();
            let nodes = status.iter().filter(|(node, _)| running.contains(&node.id.0));
            let nodes = nodes.map(|(_, status)| status.as_ref().ok()).collect::<Option<Vec<_>>>()?;
            let last = nodes.iter().map(|node| node.last).max()?;
            nodes.iter().all(|node| node.applied == last && node.last == last).then_some(())
        });
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for id in self.ids() {
            if let Some(mut child) = self.processes[id as usize - 1].take() {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        if std::thread::panicking() {
            for id in self.ids() {
                let log = self.log(id);
                let lines: Vec<&str> = log.lines().collect();
                eprintln!("--- last lines of node {id}");
                for line in &lines[lines.len().saturating_sub(40)..] {
                    eprintln!("{line}");
                }
            }
        }
    }
}

/// A, B, C, ...
pub fn label(id: u64) -> String {
    char::from(b'A' + (id - 1) as u8).to_string()
}

/// Polls until `ready` has something, or the test's patience ends.
#[track_caller]
pub fn wait_until<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < deadline, "after {PATIENCE:?}, still waiting: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What a child process prints until it ends.
pub fn read_all(mut from: impl Read) -> String {
    let mut text = String::new();
    let _ = from.read_to_string(&mut text);
    text
}
