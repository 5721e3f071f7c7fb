//! The Maelstrom door: clients and peers share standard input and output, one JSON object a line.
//!
//! Nothing is written before `init` has told this node its name. From then on peers' messages go to the node as they
//! are, and a client's request becomes a query or a command whose keys and values are canonical JSON text (see
//! [`codec::json`](crate::codec::json)), unless the node answers it by itself. What cannot be answered, for want of a
//! `msg_id` or of any sense, is logged and not run.

mod alone;
mod counter;
mod kafka;
mod lin_kv;
mod message;
mod request;
mod serving;
mod set;
mod txn;
mod workload;

use std::convert::Infallible;
use std::io::{self, BufRead, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use self::alone::Alone;
use self::message::{Address, Body, ErrorCode, Incoming, Request};
pub use self::serving::Options;
use self::serving::Serving;
pub use self::workload::Workload;
use crate::runtime::{Life, NodeHandle};
use crate::storage::PeerMemory;
use crate::transport::stdio::input::{LINE_BYTES_MAX, Line, read_line};
use crate::transport::stdio::{Names, Output, Snapshots, StdioTransport, Wire};

/// How long the last lines may take to be written.
const LAST_LINES: Duration = Duration::from_millis(500);

/// An open door.
pub struct Door {
    closed: Receiver<Closed>,
    output: Arc<Output>,
}

/// Why a door closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The input ended: a clean stop.
    EndOfInput,
    /// Nobody reads the output any more: a clean stop, too.
    OutputLost(String),
    /// The input could not be read.
    InputLost(String),
    /// The node could not be started.
    NotStarted(String),
}

/// What `init` told.
pub struct Init {
    wire: Arc<Wire>,
    output: Arc<Output>,
    snapshots: Arc<Snapshots>,
}

impl Init {
    /// Who this node and its peers are.
    pub fn names(&self) -> &Names {
        self.wire.names()
    }

    /// The transport of this node, in this life of it. `peers` is what its data folder remembers of peers' lives, if it has
    /// one.
    pub fn transport(&self, node: &NodeHandle, life: Life, peers: Option<PeerMemory>) -> StdioTransport {
        if let Some(peers) = peers {
            self.wire.remember_peers(peers, node.clone());
        }
        let (wire, output, snapshots) = (self.wire.clone(), self.output.clone(), self.snapshots.clone());
        StdioTransport::new(wire, output, snapshots, node.clone(), life)
    }
}

/// Opens a door and serves clients and peers on threads of its own. `start` is called after the first valid `init` and
/// starts the node.
pub fn serve(
    input: impl BufRead + Send + 'static,
    output: impl Write + Send + 'static,
    options: Options,
    start: impl FnOnce(&Init) -> Result<NodeHandle, String> + Send + 'static,
) -> io::Result<Door> {
    let (closing, closed) = crossbeam_channel::unbounded();
    let lost = closing.clone();
    let output = Output::start(output, move |error| close(&lost, Closed::OutputLost(error.to_string())))?;
    let lines = Lines { input, line: Vec::new() };
    let shared = output.clone();
    thread::Builder::new().name("stdin".into()).spawn(move || {
        let Err(why) = run(lines, shared, options, start);
        close(&closing, why);
    })?;
    Ok(Door { closed, output })
}

fn close(closing: &Sender<Closed>, why: Closed) {
    // Fails when whoever opened the door has left; then nobody needs to know.
    let _ = closing.send(why);
}

impl Door {
    /// Tells once the door has closed, so that the node can be stopped.
    pub fn closed(&self) -> &Receiver<Closed> {
        &self.closed
    }

    /// Writes the last lines. To be called when the node has stopped; does not wait long for a reader that does not read.
    pub fn finish(self) {
        self.output.close(LAST_LINES);
    }
}

fn run(
    mut lines: Lines<impl BufRead>,
    output: Arc<Output>,
    options: Options,
    start: impl FnOnce(&Init) -> Result<NodeHandle, String>,
) -> Result<Infallible, Closed> {
    let (names, kind, client) = wait_for_init(&mut lines, &output)?;
    let wire = Arc::new(Wire::new(names));
    let snapshots = Snapshots::new(wire.clone(), output.clone());
    let init = Init { wire, output, snapshots };
    let alone = Alone::new(init.names().my_name());
    let (alone, node) = match alone.and_then(|alone| Ok((alone, start(&init)?))) {
        Ok(both) => both,
        Err(why) => {
            client.answer(&init.output, &Body::error(ErrorCode::Crash, why.clone()));
            return Err(Closed::NotStarted(why));
        }
    };
    client.answer(&init.output, &Body::ok(&kind));
    let serving = Serving::new(init, node, alone, options);
    loop {
        serving.handle(lines.next()?);
    }
}

/// Waits for a valid `init`. Returns what it said, its type (the older guide calls it `raft_init`) and who awaits the
/// answer.
fn wait_for_init(lines: &mut Lines<impl BufRead>, output: &Output) -> Result<(Names, String, Address), Closed> {
    loop {
        let line = lines.next()?;
        let message = Incoming::parse(line);
        let request = message.as_ref().map_err(String::clone).and_then(Incoming::request);
        let (Ok(message), Ok(Some(request))) = (&message, &request) else {
            log::warn!("ignored a line before init: {}", excerpt(line));
            continue;
        };
        let (Ok(kind @ ("init" | "raft_init")), Ok(dest)) = (request.kind.as_deref(), &message.dest) else {
            log::warn!("ignored a message before init: {}", excerpt(line));
            continue;
        };
        let client = message.address(dest, request.msg_id);
        match names(dest, request) {
            Ok(names) => return Ok((names, kind.to_owned(), client)),
            Err(why) => {
                log::warn!("refused an init: {why}");
                client.answer(output, &Body::error(ErrorCode::MalformedRequest, why));
            }
        }
    }
}

fn names(dest: &str, init: &Request<'_>) -> Result<Names, String> {
    let me: String = init.body.field("node_id")?;
    if me != dest {
        return Err(format!("`node_id` is {me:?}, but the message is for {dest:?}"));
    }
    Names::new(&me, init.body.field("node_ids")?)
}

/// The lines of the input that may be messages.
struct Lines<R> {
    input: R,
    line: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    fn next(&mut self) -> Result<&[u8], Closed> {
        loop {
            match read_line(&mut self.input, &mut self.line, LINE_BYTES_MAX) {
                Ok(Line::Complete) if self.line.trim_ascii().is_empty() => {}
                Ok(Line::Complete) => return Ok(&self.line),
                Ok(Line::TooLong) => log::warn!("ignored a line of more than {LINE_BYTES_MAX} bytes"),
                Ok(Line::End) => return Err(Closed::EndOfInput),
                Err(error) => return Err(Closed::InputLost(error.to_string())),
            }
        }
    }
}

/// The beginning of a line, for the log.
fn excerpt(line: &[u8]) -> String {
    const EXCERPT_BYTES: usize = 200;
    let (start, rest) = line.split_at(line.len().min(EXCERPT_BYTES));
    format!("{:?}{}", String::from_utf8_lossy(start), if rest.is_empty() { "" } else { "..." })
}

#[cfg(test)]
mod tests;
