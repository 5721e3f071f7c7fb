//! Writers that go on whatever happens to the nodes, and remember what was acknowledged.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::cluster::wait_until;

/// How long a writer waits for an answer. Then the outcome is unknown, as after a lost connection.
const TIMEOUT: Duration = Duration::from_secs(2);
/// What a writer waits before it tries the next node, so that it leaves some of the processor to nodes that start.
const PAUSE: Duration = Duration::from_millis(5);

/// Clients that each set one key after another, none of them twice.
pub struct Load {
    shared: Arc<Shared>,
    writers: Vec<JoinHandle<()>>,
}

struct Shared {
    nodes: Vec<SocketAddr>,
    ended: AtomicBool,
    count: AtomicUsize,
    acknowledged: Mutex<Vec<String>>,
}

impl Load {
    /// Starts so many writers. Each begins with another node, and moves to the next when that one is of no help.
    pub fn start(nodes: Vec<SocketAddr>, writers: usize) -> Load {
        let shared =
            Shared { nodes, ended: AtomicBool::new(false), count: AtomicUsize::new(0), acknowledged: Mutex::default() };
        let shared = Arc::new(shared);
        let writers = (0..writers).map(|writer| {
            let shared = shared.clone();
            std::thread::spawn(move || shared.write(writer))
        });
        Load { writers: writers.collect(), shared }
    }

    /// Returns when so many more writes are acknowledged.
    #[track_caller]
    pub fn wait_for(&self, more: usize) {
        let count = || self.shared.count.load(Ordering::Relaxed);
        let enough = count() + more;
        wait_until("writes are acknowledged", || (count() >= enough).then_some(()));
    }

    /// Stops the writers. All keys whose writes were acknowledged: each was set to [`value_of`] it.
    pub fn stop(&mut self) -> Vec<String> {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.writers.drain(..).for_each(|writer| writer.join().expect("a writer ends"));
        std::mem::take(&mut self.shared.acknowledged.lock().expect("no writer panicked"))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
    }
}

/// The one value of a key: long enough for snapshots to be due now and then.
pub fn value_of(key: &str) -> String {
    format!("{key:->150}")
}

impl Shared {
    fn write(&self, writer: usize) {
        let (mut node, mut connection) = (writer, None);
        for number in 0u64.. {
            if self.ended.load(Ordering::Relaxed) {
                return;
            }
            let Some(open) = connection.as_mut() else {
                node = (node + 1) % self.nodes.len();
                connection = connect(self.nodes[node]);
                std::thread::sleep(PAUSE);
                continue;
            };
            let key = format!("{writer}-{number}");
            match redis::cmd("SET").arg(&key).arg(value_of(&key)).exec(open) {
                Ok(()) => {
                    self.acknowledged.lock().expect("no writer panicked").push(key);
                    self.count.fetch_add(1, Ordering::Relaxed);
                }
                // Nothing happened, or nobody knows: never tried again, for then it could not be told which one is there.
                Err(_) => connection = None,
            }
        }
    }
}

fn connect(node: SocketAddr) -> Option<redis::Connection> {
    let client = redis::Client::open(format!("redis://{node}/")).expect("a redis URL");
    let connection = client.get_connection_with_timeout(TIMEOUT).ok()?;
    connection.set_read_timeout(Some(TIMEOUT)).ok()?;
    Some(connection)
}
