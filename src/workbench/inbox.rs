//! The standard input of a node: takes lines without ever waiting for a node that does not read.
//!
//! Whoever brings lines writes them, as far as the pipe takes them. What is left a thread writes once there is room.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ChildStdin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

/// Most bytes that wait for a node that does not read. What comes then is lost.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// How often it is looked whether an inbox with a node that does not read has been closed.
const CLOSED_CHECK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// The way into one life of a node.
pub struct Inbox {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// None once it has been closed, or the node has ended.
    pipe: Option<Arc<Pipe>>,
    /// What the pipe did not take yet.
    waiting: VecDeque<u8>,
}

struct Pipe(OwnedFd);

impl Inbox {
    /// The way in through this pipe.
    ///
    /// # Errors
    /// When the pipe cannot be told not to wait, or there is no thread.
    pub fn open(pipe: ChildStdin) -> io::Result<Arc<Inbox>> {
        let pipe = OwnedFd::from(pipe);
        fcntl_setfl(&pipe, fcntl_getfl(&pipe)? | OFlags::NONBLOCK)?;
        let state = State { pipe: Some(Arc::new(Pipe(pipe))), waiting: VecDeque::new() };
        let inbox = Arc::new(Inbox { state: Mutex::new(state), changed: Condvar::new() });
        let pumped = inbox.clone();
        thread::Builder::new().name("inbox".into()).spawn(move || while pumped.pump() {})?;
        Ok(inbox)
    }

    /// Brings whole lines. False: there are too many already, and these are lost.
    pub fn push(&self, lines: &[u8]) -> bool {
        let mut state = self.lock();
        if state.waiting.len() > WAITING_BYTES_MAX {
            return false;
        }
        if state.waiting.is_empty() {
            let written = state.write(lines);
            state.waiting.extend(lines.get(written..).unwrap_or_default());
            if !state.waiting.is_empty() {
                self.changed.notify_one();
            }
        } else {
            state.waiting.extend(lines);
        }
        true
    }

    /// Ends the node's input, whatever waits.
    pub fn close(&self) {
        self.lock().pipe = None;
        self.changed.notify_one();
    }

    /// Waits until something waits, and then until there is room for it. False: closed.
    fn pump(&self) -> bool {
        let mut state = self.lock();
        while state.pipe.is_some() && state.waiting.is_empty() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let Some(pipe) = state.pipe.clone() else { return false };
        drop(state);
        let mut ready = [PollFd::from_borrowed_fd(pipe.0.as_fd(), PollFlags::OUT)];
        // Whether there is room, nobody reads, or time is up: what is written next tells.
        let _ = poll(&mut ready, Some(&CLOSED_CHECK));
        let mut state = self.lock();
        let mut waiting = std::mem::take(&mut state.waiting);
        let written = state.write(waiting.as_slices().0);
        waiting.drain(..written);
        state.waiting = waiting;
        state.pipe.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Writes as much as there is room for: how many bytes of it.
    fn write(&mut self, bytes: &[u8]) -> usize {
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty())
            && let Some(pipe) = &self.pipe
        {
            match rustix::io::write(&pipe.0, rest) {
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.pipe = None,
            }
        }
        written
    }
}
