//! One connection, and the clients that share it.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::course::{Course, Request};
use super::reply::{self, Malformed, Reply};

/// How long a client waits after an error, and a connection before it is made anew.
pub(super) const PAUSE: Duration = Duration::from_millis(10);
pub(super) const RECONNECT_PAUSE: Duration = Duration::from_millis(100);
/// Room for replies at first; more if one does not fit.
const INPUT_BYTES: usize = 64 << 10;

/// One connection.
pub struct Connection {
    token: Token,
    clients: usize,
    state: State,
    /// Which of the addresses comes next.
    turn: usize,
    output: Output,
    /// What has arrived, up to `filled`, and was not complete.
    input: Vec<u8>,
    filled: usize,
    /// In the order in which they were sent, and will be answered.
    waiting: VecDeque<Request>,
    /// When clients may send again, after an error.
    resting: VecDeque<Instant>,
}

/// What has to be sent, and how much of it was.
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    sent: usize,
}

enum State {
    /// There is none, until then.
    Down(Instant),
    /// It has been asked for.
    Connecting(TcpStream, Instant),
    Up(TcpStream),
}

/// Why a connection is of no more use: the word that its requests are counted by.
pub(super) struct Lost(pub &'static str);

impl From<io::Error> for Lost {
    fn from(_: io::Error) -> Self {
        Lost("LOST")
    }
}

impl Connection {
    /// A connection that so many clients share, to be made at the first [`tend`](Self::tend).
    pub fn new(token: Token, clients: usize, now: Instant) -> Self {
        Connection {
            token,
            clients,
            state: State::Down(now),
            turn: 0,
            output: Output::default(),
            input: vec![0; INPUT_BYTES],
            filled: 0,
            waiting: VecDeque::with_capacity(clients),
            resting: VecDeque::with_capacity(clients),
        }
    }

    /// Whether a request waits for its answer.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The socket can be read or written.
    pub fn ready(&mut self, course: &mut Course) {
        let outcome = self.establish().and_then(|up| if up { self.exchange(course) } else { Ok(()) });
        if let Err(Lost(word)) = outcome {
            self.lose(word, course);
        }
    }

    /// Does what is due without the socket: connects, gives up, wakes clients.
    pub fn tend(
        &mut self,
        now: Instant,
        timeout: Duration,
        addresses: &[SocketAddr],
        course: &mut Course,
        registry: &Registry,
    ) {
        let outcome = match &self.state {
            State::Down(until) if now >= *until => self.connect(now, addresses, registry),
            State::Connecting(_, since) if now - *since > timeout => Err(Lost("TIMEOUT")),
            State::Up(_) if self.waiting.front().is_some_and(|oldest| now - oldest.sent > timeout) => {
                Err(Lost("TIMEOUT"))
            }
            State::Up(_) if self.resting.front().is_some_and(|due| now >= *due) => {
                self.wake(now, course);
                self.write()
            }
            _ => Ok(()),
        };
        if let Err(Lost(word)) = outcome {
            self.lose(word, course);
        }
    }

    fn connect(&mut self, now: Instant, addresses: &[SocketAddr], registry: &Registry) -> Result<(), Lost> {
        let Some(address) = addresses.get(self.turn % addresses.len().max(1)) else { return Err(Lost("LOST")) };
        let mut stream = TcpStream::connect(*address)?;
        registry.register(&mut stream, self.token, Interest::READABLE | Interest::WRITABLE)?;
        self.state = State::Connecting(stream, now);
        Ok(())
    }

    /// Whether the connection is there. All its clients begin when it is.
    fn establish(&mut self) -> Result<bool, Lost> {
        let State::Connecting(stream, _) = &self.state else { return Ok(matches!(self.state, State::Up(_))) };
        if let Some(error) = stream.take_error()? {
            return Err(error.into());
        }
        match stream.peer_addr() {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        stream.set_nodelay(true)?;
        let now = Instant::now();
        if let State::Connecting(stream, _) = mem::replace(&mut self.state, State::Down(now)) {
            self.state = State::Up(stream);
        }
        self.resting.extend((0..self.clients).map(|_| now));
        Ok(true)
    }

    /// Reads all that there is, lets the clients go on, and writes what they have to say in one go.
    fn exchange(&mut self, course: &mut Course) -> Result<(), Lost> {
        self.read(course)?;
        self.wake(Instant::now(), course);
        self.write()
    }

    fn read(&mut self, course: &mut Course) -> Result<(), Lost> {
        let State::Up(stream) = &mut self.state else { return Ok(()) };
        loop {
            if self.filled == self.input.len() {
                self.input.resize(2 * self.filled, 0);
            }
            match stream.read(self.input.get_mut(self.filled..).unwrap_or_default()) {
                Ok(0) => return Err(Lost("LOST")),
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            let now = Instant::now();
            let mut done = 0;
            while let Some((reply, length)) = reply::first(self.input.get(done..self.filled).unwrap_or_default())
                .map_err(|Malformed| Lost("PROTOCOL"))?
            {
                done += length;
                let request = self.waiting.pop_front().ok_or(Lost("PROTOCOL"))?;
                course.answered(request, reply, now);
                match reply {
                    Reply::Error(_) => self.resting.push_back(now + PAUSE),
                    _ => self.waiting.extend(course.next(now, &mut self.output.bytes)),
                }
            }
            self.input.copy_within(done..self.filled, 0);
            self.filled -= done;
        }
    }

    /// The clients that have rested go on.
    fn wake(&mut self, now: Instant, course: &mut Course) {
        while self.resting.pop_front_if(|due| now >= *due).is_some() {
            self.waiting.extend(course.next(now, &mut self.output.bytes));
        }
    }

    fn write(&mut self) -> Result<(), Lost> {
        match &mut self.state {
            State::Up(stream) => Ok(self.output.write_to(stream)?),
            State::Down(_) | State::Connecting(..) => Ok(()),
        }
    }

    /// All that waits has failed; the next address gets its turn.
    fn lose(&mut self, word: &'static str, course: &mut Course) {
        let now = Instant::now();
        course.lost_connection();
        for request in self.waiting.drain(..) {
            course.failed(request, word, now);
        }
        self.state = State::Down(now + RECONNECT_PAUSE);
        self.turn += 1;
        self.output = Output::default();
        self.resting.clear();
        self.filled = 0;
    }
}

impl Output {
    /// Writes as much as there is room for.
    fn write_to(&mut self, stream: &mut impl Write) -> io::Result<()> {
        while let Some(rest) = self.bytes.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match stream.write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        // A server that is always a bit behind must not make this grow; and no byte is moved more often than another one was sent.
        if 2 * self.sent >= self.bytes.len() {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes, and then no more for now.
    struct Slow {
        room: usize,
        taken: Vec<u8>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.room == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            let count = bytes.len().min(self.room);
            self.room -= count;
            self.taken.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_was_sent_is_forgotten_although_there_is_always_more() {
        let mut output = Output { bytes: vec![0; 700], sent: 0 };
        let mut slow = Slow { room: 0, taken: Vec::new() };
        let mut expected = output.bytes.clone();
        for turn in 1..=100 {
            output.bytes.extend([turn; 1_000]);
            expected.extend([turn; 1_000]);
            slow.room = 1_000;
            output.write_to(&mut slow).unwrap();
            assert!(output.bytes.len() < 3_000, "{} bytes are kept after {turn} turns", output.bytes.len());
        }
        slow.room = usize::MAX;
        output.write_to(&mut slow).unwrap();
        assert!(slow.taken == expected && output.bytes.is_empty(), "all arrived in order");
    }
}
