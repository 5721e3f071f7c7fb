//! Waits for readiness and gives every ready socket its turn: a thread of the pool, or one that has other work beside.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use log::warn;
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;

use super::controller::{Job, Newcomer, Shared};
use crate::runtime::sockets::{ACCEPT_PAUSE, Door, Next, READ_BYTES, Readiness, Socket, Stream};

/// Events taken from the system at once.
const EVENTS: usize = 256;
/// Connections accepted before the sockets get their turn.
const ACCEPTS: usize = 64;

/// Some of the sockets, for the one thread that serves them.
pub(super) struct Worker {
    shared: Arc<Shared>,
    poll: Poll,
    events: Events,
    jobs: Receiver<Job>,
    sockets: HashMap<Token, Socket>,
    listeners: HashMap<Token, (TcpListener, Door)>,
    /// Have more to do, but others come first.
    again: BTreeSet<Token>,
    timers: Timers,
    scratch: Box<[u8]>,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, poll: Poll, jobs: Receiver<Job>) -> Self {
        Worker {
            shared,
            poll,
            events: Events::with_capacity(EVENTS),
            jobs,
            sockets: HashMap::new(),
            listeners: HashMap::new(),
            again: BTreeSet::new(),
            timers: Timers::default(),
            scratch: vec![0; READ_BYTES].into_boxed_slice(),
        }
    }

    /// Runs until the controller stops, or the system cannot tell what sockets are ready.
    pub(super) fn run(mut self) -> io::Result<()> {
        while !self.shared.is_stopping() {
            self.wait(None)?;
            self.serve();
        }
        Ok(())
    }

    /// Waits until a socket is ready, or somebody wakes this, or there is something else to do; so long at most. What is
    /// ready then stays so until it is [served](Self::serve).
    ///
    /// # Errors
    /// The system cannot tell what sockets are ready.
    pub(super) fn wait(&mut self, longest: Option<Duration>) -> io::Result<()> {
        // The system tells each only once.
        if !self.events.is_empty() {
            return Ok(());
        }
        let patience = [longest, self.patience()].into_iter().flatten().min();
        match self.poll.poll(&mut self.events, patience) {
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            polled => polled,
        }
    }

    /// Whether there is something to serve.
    pub(super) fn has_work(&self) -> bool {
        !self.events.is_empty() || self.patience() == Some(Duration::ZERO)
    }

    /// Gives each socket that has something to do one turn.
    pub(super) fn serve(&mut self) {
        let mut turns = std::mem::take(&mut self.again);
        for event in &self.events {
            if let Some(socket) = self.sockets.get_mut(&event.token()) {
                socket.note(readiness(event));
            }
            turns.insert(event.token());
        }
        self.events.clear();
        while let Ok(job) = self.jobs.try_recv() {
            turns.extend(self.start(job));
        }
        if turns.is_empty() && self.timers.is_empty() {
            return;
        }
        let now = Instant::now();
        self.timers.take_due(now, &mut turns);
        for token in turns {
            self.turn(token, now);
        }
    }

    /// How long to wait for events: forever, if nothing else is due.
    fn patience(&self) -> Option<Duration> {
        if !self.again.is_empty() {
            return Some(Duration::ZERO);
        }
        self.timers.first().map(|at| at.saturating_duration_since(Instant::now()))
    }

    fn start(&mut self, job: Job) -> Option<Token> {
        match job {
            Job::Adopt(newcomer) => self.adopt(newcomer),
            Job::Listen(token, listener, door) => {
                self.listeners.insert(token, (listener, door));
                Some(token)
            }
        }
    }

    fn adopt(&mut self, newcomer: Newcomer) -> Option<Token> {
        let Newcomer { id, mut stream, peer, limits, session, seat } = newcomer;
        let token = Token(id as usize);
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.poll.registry().register(&mut stream, token, interest) {
            warn!("closing connection {id} with {peer}, which cannot be watched: {error}");
            return None;
        }
        self.sockets.insert(token, Socket::new(Arc::new(stream), (id, peer), limits, session, seat));
        Some(token)
    }

    fn turn(&mut self, token: Token, now: Instant) {
        let next = match self.sockets.get_mut(&token) {
            Some(socket) => socket.turn(&mut self.scratch, now, &self.shared.log_limit),
            None => self.accept(token, now),
        };
        self.timers.cancel(token);
        match next {
            Next::Wait => {}
            Next::Again => drop(self.again.insert(token)),
            Next::At(at) => self.timers.set(token, at),
            Next::Over => drop(self.sockets.remove(&token)),
        }
    }

    /// A listener's turn. Tokens of sockets that are gone, and of the waker, end here too: nothing to do.
    fn accept(&mut self, token: Token, now: Instant) -> Next {
        let Some((listener, door)) = self.listeners.get_mut(&token) else { return Next::Wait };
        for _ in 0..ACCEPTS {
            let accepted = listener.accept();
            if accepted.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
                return Next::Wait;
            }
            match door.admit(accepted, &self.shared.log_limit) {
                Ok(Some((stream, peer, seat))) => {
                    let (id, (limits, session)) = (self.shared.next_id(), door.terms());
                    self.shared.place(Newcomer { id, stream, peer, limits, session, seat: Some(seat) });
                }
                Ok(None) => {}
                Err(()) => return Next::At(now + ACCEPT_PAUSE),
            }
        }
        Next::Again
    }
}

fn readiness(event: &Event) -> Readiness {
    Readiness {
        readable: event.is_readable() || event.is_read_closed() || event.is_error(),
        writable: event.is_writable(),
        ended: event.is_read_closed() || event.is_error(),
        gone: event.is_write_closed() || event.is_error(),
    }
}

impl Stream for TcpStream {
    fn receive(&self, into: &mut [u8]) -> io::Result<usize> {
        (&*self).read(into)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn socket(&self) -> SockRef<'_> {
        SockRef::from(self)
    }
}

/// At most one point in time per token.
#[derive(Default)]
struct Timers {
    queue: BTreeSet<(Instant, Token)>,
    by_token: HashMap<Token, Instant>,
}

impl Timers {
    fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    fn first(&self) -> Option<Instant> {
        self.queue.first().map(|(at, _)| *at)
    }

    fn set(&mut self, token: Token, at: Instant) {
        self.cancel(token);
        self.queue.insert((at, token));
        self.by_token.insert(token, at);
    }

    fn cancel(&mut self, token: Token) {
        if let Some(at) = self.by_token.remove(&token) {
            self.queue.remove(&(at, token));
        }
    }

    fn take_due(&mut self, now: Instant, due: &mut BTreeSet<Token>) {
        while let Some((at, token)) = self.queue.first().copied().filter(|(at, _)| *at <= now) {
            self.queue.remove(&(at, token));
            self.by_token.remove(&token);
            due.insert(token);
        }
    }
}
