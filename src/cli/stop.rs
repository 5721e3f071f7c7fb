//! What asks a process to stop: SIGINT (Ctrl-C), SIGTERM, or the end of standard input.

use std::fmt;
use std::io::{self, Read};
use std::thread;

use crossbeam_channel::{Receiver, Sender};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level;

/// Why to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// A signal.
    Signal(i32),
    /// Whoever holds the other end of standard input closed it, or died.
    InputEnded,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StopReason::Signal(SIGINT) => f.write_str("SIGINT"),
            StopReason::Signal(SIGTERM) => f.write_str("SIGTERM"),
            StopReason::Signal(signal) => write!(f, "signal {signal}"),
            StopReason::InputEnded => f.write_str("the end of standard input"),
        }
    }
}

/// Exit code of a process that a signal ended.
pub fn exit_code(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(1)
}

/// Receives the first request to stop cleanly. A second signal ends the process at once.
///
/// # Errors
/// When the signals cannot be caught, or a thread cannot be started.
pub fn requests(with_stdin: bool) -> io::Result<Receiver<StopReason>> {
    requests_until(with_stdin, || ())
}

/// The same, with something to be done before a second signal ends the process.
///
/// # Errors
/// When the signals cannot be caught, or a thread cannot be started.
pub fn requests_until(with_stdin: bool, end: fn()) -> io::Result<Receiver<StopReason>> {
    let (sender, receiver) = crossbeam_channel::unbounded();
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let by_signal = sender.clone();
    thread::Builder::new().name("signals".into()).spawn(move || {
        for (count, signal) in signals.forever().enumerate() {
            if count > 0 {
                end();
                low_level::exit(exit_code(signal).into());
            }
            let _ = by_signal.send(StopReason::Signal(signal));
        }
    })?;
    if with_stdin {
        thread::Builder::new().name("stdin".into()).spawn(move || await_end(io::stdin(), &sender))?;
    }
    Ok(receiver)
}

/// Waits for the end of the input; what it says does not matter.
fn await_end(mut input: impl Read, sender: &Sender<StopReason>) {
    let mut buffer = [0; 512];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => break,
            Err(error) if error.kind() != io::ErrorKind::Interrupted => break,
            _ => {}
        }
    }
    let _ = sender.send(StopReason::InputEnded);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_input_asks_to_stop() {
        let (sender, receiver) = crossbeam_channel::unbounded();
        await_end(&[0; 2000][..], &sender);
        assert_eq!(receiver.try_recv(), Ok(StopReason::InputEnded));
    }
}
