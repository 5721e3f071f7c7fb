//! A node, all that the `raft` program runs, whose state machine remembers its whole history: the key-value store and a
//! hash of every command that was ever applied, in order. A command applied twice, left out or moved changes the state's
//! digest for good, which not every command of the store would.

use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use raft::config::Config;
use raft::consensus::NodeId;
use raft::machine::command::{Answer, Query};
use raft::machine::{Applied, Asked, Composite, Machine, MachineSnapshot};
use raft::runtime::daemon::Daemon;
use twox_hash::XxHash3_64;

/// raft.ini, and which of its nodes to run.
const INI: &str = "RAFT_TEST_HISTORIAN_INI";
const ID: &str = "RAFT_TEST_HISTORIAN_ID";

/// The command that runs such a node: this very program, asked for one of its tests.
pub fn command(ini: &Path, id: u64) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "support::historian::runs_when_it_is_asked_to", "--nocapture"]);
    command.env(INI, ini).env(ID, id.to_string());
    command
}

/// No test of its own: what [`command`] runs.
#[test]
fn runs_when_it_is_asked_to() {
    let (Some(ini), Ok(id)) = (std::env::var_os(INI), std::env::var(ID)) else { return };
    env_logger::Builder::new().filter_level(log::LevelFilter::Info).format_timestamp_millis().init();
    let config = Config::load(Path::new(&ini)).expect("raft.ini is valid");
    let id = NodeId(id.parse().expect("a number"));
    let daemon = Daemon::start(&config, id, Box::<Historian>::default()).expect("the node starts");
    // Until it fails, or is killed.
    let _ = daemon.node().running().recv();
}

/// The key-value store, and all that ever happened to it.
#[derive(Default)]
pub struct Historian {
    store: Composite,
    history: History,
}

#[derive(Clone, Copy, Default)]
struct History {
    /// Log index of the last command.
    applied: u64,
    /// A hash of all commands and their indexes, in order.
    hash: u64,
}

impl History {
    fn append(&mut self, index: u64, command: &[u8]) {
        self.applied = index;
        self.hash = XxHash3_64::oneshot_with_seed(self.hash ^ index, command);
    }

    fn write(self, to: &mut dyn Write) -> std::io::Result<()> {
        to.write_all(&self.applied.to_le_bytes())?;
        to.write_all(&self.hash.to_le_bytes())
    }

    fn read(from: &mut dyn Read) -> std::io::Result<Self> {
        let mut number = || {
            let mut bytes = [0; 8];
            from.read_exact(&mut bytes).map(|()| u64::from_le_bytes(bytes))
        };
        Ok(History { applied: number()?, hash: number()? })
    }
}

impl Machine for Historian {
    fn apply(&mut self, command: Applied<'_>) -> Bytes {
        self.history.append(command.index.0, command.command);
        self.store.apply(command)
    }

    fn query(&self, asked: Asked<'_>) -> Bytes {
        match Query::decode(asked.query) {
            // Without the keys, of which there are many: it is asked for the digest.
            Ok(Query::State { .. }) => {
                let (applied, digest) = (self.history.applied, self.digest());
                Answer::State { applied, keys: 0, digest, items: Vec::new(), more: true }.encode()
            }
            _ => self.store.query(asked),
        }
    }

    fn digest(&self) -> u64 {
        self.store.digest() ^ self.history.hash
    }

    fn snapshot(&self) -> Option<Box<dyn MachineSnapshot>> {
        Some(Box::new(View { store: self.store.snapshot()?, history: self.history }))
    }

    fn restore(&mut self, from: &mut dyn Read) -> Result<(), String> {
        self.history = History::read(from).map_err(|error| error.to_string())?;
        self.store.restore(from)
    }
}

struct View {
    store: Box<dyn MachineSnapshot>,
    history: History,
}

impl MachineSnapshot for View {
    fn write(self: Box<Self>, to: &mut dyn Write) -> std::io::Result<()> {
        self.history.write(to)?;
        self.store.write(to)
    }
}
