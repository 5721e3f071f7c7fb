//! `watch TOPIC`: shows messages as they come, until Ctrl-C.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Console;
use super::output::{seen_json, seen_text};
use crate::client::{Client, Error, Peeked};

/// What is new is asked for so often: one query, which leaves no trace in the log.
const PAUSE: Duration = Duration::from_millis(250);
/// Most messages that are fetched at once.
const PART: u64 = 100;

/// Ends the watch that runs, if one does: one of a process at a time.
static WATCHING: Mutex<Option<Sender<()>>> = Mutex::new(None);

/// Ctrl-C was pressed: ends the watch that runs. False if none does. Whoever catches SIGINT asks here first.
pub fn interrupt() -> bool {
    watching().take().is_some_and(|end| end.send(()).is_ok())
}

fn watching() -> MutexGuard<'static, Option<Sender<()>>> {
    WATCHING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Prints the messages of a topic that are there, and those that come, leaving them where they are. Returns when it is
/// interrupted, or with the error that ended it.
pub(super) fn watch(client: &mut Client, topic: &[u8], console: &mut Console<'_>) -> io::Result<Result<(), Error>> {
    let (end, ended) = mpsc::channel();
    *watching() = Some(end);
    let result = show(client, topic, console, &ended);
    *watching() = None;
    result
}

fn show(
    client: &mut Client,
    topic: &[u8],
    console: &mut Console<'_>,
    ended: &Receiver<()>,
) -> io::Result<Result<(), Error>> {
    let (mut number, mut last) = (None, 0);
    loop {
        let Peeked { topic: found, messages } = match client.peek(topic, last, PART) {
            Ok(peeked) => peeked,
            Err(error) => return Ok(Err(error)),
        };
        if number.replace(found).is_some_and(|before| before != found) {
            // Another topic of this name: its messages count from 1 again.
            last = 0;
            continue;
        }
        for (id, message) in &messages {
            last = *id;
            let line = if console.json { seen_json(last, message) } else { seen_text(last, message) };
            writeln!(console.out, "{line}")?;
        }
        console.out.flush()?;
        let pause = if messages.is_empty() { PAUSE } else { Duration::ZERO };
        if ended.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            return Ok(Ok(()));
        }
    }
}
