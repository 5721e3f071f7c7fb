//! The one writer of standard output: whole lines from any thread, and no thread but its own ever waits for the reader.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde::Serialize;

/// More bytes than this waiting count as a reader that does not keep up.
const QUEUED_BYTES_MAX: usize = 64 << 20;
/// Larger buffers are given back after use.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// Queues lines for a writer thread of its own, which takes everything that is there in one write.
pub struct Output {
    state: Mutex<State>,
    /// The writer thread waits here for lines.
    queued: Condvar,
    /// Others wait here for the writer thread.
    written: Condvar,
}

#[derive(Default)]
struct State {
    queue: Vec<u8>,
    /// The writer thread waits for lines.
    idle: bool,
    /// The writer thread shall end once everything is written.
    closing: bool,
    /// The writer thread has ended, and lines are dropped.
    ended: bool,
}

impl Output {
    /// Starts the writer thread. `lost` is called once, should writing fail.
    pub fn start(
        writer: impl Write + Send + 'static,
        lost: impl FnOnce(io::Error) + Send + 'static,
    ) -> io::Result<Arc<Output>> {
        let output = Arc::new(Output { state: Mutex::default(), queued: Condvar::new(), written: Condvar::new() });
        let shared = output.clone();
        thread::Builder::new().name("stdout".into()).spawn(move || {
            let outcome = shared.write_until_closed(writer);
            shared.lock().ended = true;
            shared.written.notify_all();
            if let Err(error) = outcome {
                lost(error);
            }
        })?;
        Ok(output)
    }

    /// Queues one value as a line. It is written at the next [`flush`](Output::flush), or earlier.
    pub fn line(&self, value: &impl Serialize) {
        let mut line = Vec::new();
        match serde_json::to_writer(&mut line, value) {
            Ok(()) => {
                line.push(b'\n');
                self.lines(&line);
            }
            Err(error) => log::error!("a message could not be encoded and was dropped: {error}"),
        }
    }

    /// Queues whole lines.
    pub fn lines(&self, lines: &[u8]) {
        let mut state = self.lock();
        if !state.ended {
            state.queue.extend_from_slice(lines);
        }
    }

    /// Lets the writer thread write what is queued. Never waits.
    pub fn flush(&self) {
        let state = self.lock();
        if state.idle && !state.queue.is_empty() {
            self.queued.notify_one();
        }
    }

    /// Whether there is room for messages that may as well be dropped.
    pub fn has_room(&self) -> bool {
        let state = self.lock();
        !state.ended && state.queue.len() < QUEUED_BYTES_MAX
    }

    /// Waits until there is room, or nobody reads any more.
    pub fn wait_for_room(&self) {
        let full = |state: &mut State| !state.ended && state.queue.len() >= QUEUED_BYTES_MAX;
        drop(self.written.wait_while(self.lock(), full).unwrap_or_else(PoisonError::into_inner));
    }

    /// Writes what is queued and ends the writer thread. Waits for that, but no longer than `limit`.
    pub fn close(&self, limit: Duration) {
        let mut state = self.lock();
        state.closing = true;
        self.queued.notify_one();
        let running = |state: &mut State| !state.ended;
        drop(self.written.wait_timeout_while(state, limit, running).unwrap_or_else(PoisonError::into_inner));
    }

    fn write_until_closed(&self, mut writer: impl Write) -> io::Result<()> {
        let mut lines = Vec::new();
        while self.take(&mut lines) {
            writer.write_all(&lines)?;
            writer.flush()?;
        }
        Ok(())
    }

    /// Waits for lines and takes all of them; `false` once there will be no more.
    fn take(&self, lines: &mut Vec<u8>) -> bool {
        lines.clear();
        lines.shrink_to(KEPT_BYTES_MAX);
        let mut state = self.lock();
        while state.queue.is_empty() && !state.closing {
            state.idle = true;
            state = self.queued.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.idle = false;
        std::mem::swap(&mut state.queue, lines);
        self.written.notify_all();
        !lines.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, pipe};
    use std::time::Instant;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn lines_of_all_threads_stay_whole() {
        let (mut reader, writer) = pipe().unwrap();
        let output = Output::start(writer, |error| panic!("{error}")).unwrap();
        thread::scope(|scope| {
            for number in 0..4 {
                let output = &output;
                scope.spawn(move || {
                    for _ in 0..100 {
                        output.line(&vec![number; 10]);
                        output.flush();
                    }
                });
            }
        });
        output.close(PATIENCE);
        drop(output);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        for number in 0..4 {
            let line = serde_json::to_string(&vec![number; 10]).unwrap();
            assert_eq!(text.lines().filter(|other| *other == line).count(), 100);
        }
        assert_eq!(text.lines().count(), 400);
    }

    #[test]
    fn a_reader_that_does_not_read_holds_nobody() {
        let (_reader, writer) = pipe().unwrap();
        let output = Output::start(writer, |_| ()).unwrap();
        let start = Instant::now();
        let lines = vec![b'x'; 1 << 20];
        while output.has_room() {
            output.lines(&lines);
            output.flush();
        }
        output.close(Duration::from_millis(10));
        assert!(start.elapsed() < PATIENCE);
    }

    #[test]
    fn a_lost_reader_is_told_and_nothing_is_kept() {
        let (reader, writer) = pipe().unwrap();
        let (sender, lost) = crossbeam_channel::bounded(1);
        let output = Output::start(writer, move |error| sender.send(error.kind()).unwrap()).unwrap();
        drop(reader);
        output.line(&1);
        output.flush();
        assert_eq!(lost.recv_timeout(PATIENCE), Ok(io::ErrorKind::BrokenPipe));
        assert!(!output.has_room());
        output.wait_for_room();
        output.close(PATIENCE);
    }
}
