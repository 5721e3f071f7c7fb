//! One thread of the pool: waits for readiness and gives every ready socket its turn.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use log::warn;
use mio::event::Event;
use mio::{Events, Interest, Poll, Token};

use super::connection::Connection;
use super::controller::{Job, Newcomer, Shared};
use super::listener::Listener;
use super::socket::{Next, Socket};

/// Events taken from the system at once.
const EVENTS: usize = 256;
/// Bytes read from a socket at once.
const READ_BYTES: usize = 64 << 10;
/// Connections accepted before the sockets get their turn.
const ACCEPTS: usize = 64;
/// How long to wait after the system refused to accept, for lack of descriptors mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// One thread of the pool.
pub(super) struct Worker {
    shared: Arc<Shared>,
    poll: Poll,
    jobs: Receiver<Job>,
    sockets: HashMap<Token, Socket>,
    listeners: HashMap<Token, Listener>,
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
            jobs,
            sockets: HashMap::new(),
            listeners: HashMap::new(),
            again: BTreeSet::new(),
            timers: Timers::default(),
            scratch: vec![0; READ_BYTES].into_boxed_slice(),
        }
    }

    /// Runs until the controller stops, or the system cannot tell what sockets are ready. Every round gives each token that
    /// has something to do one turn.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        while !self.shared.is_stopping() {
            match self.poll.poll(&mut events, self.patience()) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            let mut turns = std::mem::take(&mut self.again);
            for event in &events {
                self.note(event);
                turns.insert(event.token());
            }
            while let Ok(job) = self.jobs.try_recv() {
                turns.extend(self.start(job));
            }
            let now = Instant::now();
            self.timers.take_due(now, &mut turns);
            for token in turns {
                self.turn(token, now);
            }
        }
        Ok(())
    }

    /// How long to wait for events: forever, if nothing else is due.
    fn patience(&self) -> Option<Duration> {
        if !self.again.is_empty() {
            return Some(Duration::ZERO);
        }
        self.timers.first().map(|at| at.saturating_duration_since(Instant::now()))
    }

    fn note(&mut self, event: &Event) {
        if let Some(socket) = self.sockets.get_mut(&event.token()) {
            socket.note(event);
        }
    }

    fn start(&mut self, job: Job) -> Option<Token> {
        match job {
            Job::Adopt(newcomer) => self.adopt(newcomer),
            Job::Listen(listener) => {
                let token = listener.token;
                self.listeners.insert(token, listener);
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
        let stream = Arc::new(stream);
        let connection = Arc::new(Connection::new(id, peer, limits, stream.clone()));
        let session = session(&connection);
        self.sockets.insert(token, Socket::new(stream, connection, session, seat));
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
        let Some(listener) = self.listeners.get_mut(&token) else { return Next::Wait };
        for _ in 0..ACCEPTS {
            match listener.accept(&self.shared) {
                Ok(true) => {}
                Ok(false) => return Next::Wait,
                Err(()) => return Next::At(now + ACCEPT_PAUSE),
            }
        }
        Next::Again
    }
}

/// At most one point in time per token.
#[derive(Default)]
struct Timers {
    queue: BTreeSet<(Instant, Token)>,
    by_token: HashMap<Token, Instant>,
}

impl Timers {
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
