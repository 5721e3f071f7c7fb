//! One connection to one node: bytes out and replies in, each before a deadline.

use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use super::resp::{self, Reply};

pub(super) struct Connection {
    input: BufReader<TimedStream>,
}

/// A stream whose reads end at a deadline.
struct TimedStream {
    stream: TcpStream,
    deadline: Instant,
}

impl Connection {
    /// Looks the name up, anew each time, and connects to the first of its addresses that answers. The look-up itself is
    /// the system's and is not bounded by the deadline.
    pub(super) fn open(host: &str, port: u16, deadline: Instant) -> io::Result<Connection> {
        let mut error = io::Error::new(ErrorKind::NotFound, "the name has no address");
        for address in (host, port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, left(deadline)?) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(Connection { input: BufReader::new(TimedStream { stream, deadline }) });
                }
                Err(refused) => error = refused,
            }
        }
        Err(error)
    }

    /// Whether a request may be sent: the other side has not closed the connection, and nothing unasked has arrived.
    pub(super) fn is_idle(&self) -> bool {
        let stream = &self.input.get_ref().stream;
        let quiet = stream.set_nonblocking(true).is_ok()
            && stream.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        stream.set_nonblocking(false).is_ok() && quiet && self.input.buffer().is_empty()
    }

    /// Sends requests. After an error the last of them has not reached the node as a whole.
    pub(super) fn send(&mut self, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
        let stream = &mut self.input.get_mut().stream;
        while !bytes.is_empty() {
            stream.set_write_timeout(Some(left(deadline)?))?;
            match stream.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(timed_out(error)),
            }
        }
        Ok(())
    }

    /// Waits for the next reply. After an error the connection is of no more use.
    pub(super) fn receive(&mut self, deadline: Instant) -> io::Result<Reply> {
        self.input.get_mut().deadline = deadline;
        resp::read(&mut self.input).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "the node closed the connection"),
            _ => error,
        })
    }
}

impl Read for TimedStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(left(self.deadline)?))?;
        self.stream.read(buffer).map_err(timed_out)
    }
}

/// Time until the deadline, never zero.
fn left(deadline: Instant) -> io::Result<Duration> {
    match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::Error::new(ErrorKind::TimedOut, "timed out")),
        left => Ok(left),
    }
}

/// Some systems report a socket's timeout as `WouldBlock`.
fn timed_out(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock => io::Error::new(ErrorKind::TimedOut, "timed out"),
        _ => error,
    }
}
