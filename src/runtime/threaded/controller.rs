//! The event controller: a fixed pool of threads that serves all sockets of a node by readiness.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::Wake;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};
use log::warn;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Poll, Registry, Token, Waker};

use super::worker::Worker;
use crate::runtime::sockets::{Door, ListenOptions, MakeSession, OutputLimits, Seat, SessionFactory, Sockets};
use crate::runtime::{LogLimit, spawn_guarded};

/// The waker's token; connections and listeners share the numbers above it.
const WAKER: Token = Token(0);

/// How the pool is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerOptions {
    /// Names the threads: `NAME-io-0`, ...
    pub name: String,
    /// Number of threads; 0 counts as 1.
    pub workers: usize,
}

/// The pool of threads. Dropping it closes every connection and listener and waits for the threads; what is queued is not
/// waited for.
pub struct Controller {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Controller {
    /// Starts the threads. `failed` is told, in words, when one of them ends although nobody stopped the controller: the
    /// connections that it had are closed, and those that it would get later are lost.
    pub fn start(
        options: ControllerOptions,
        failed: impl Fn(String) + Send + Sync + 'static,
    ) -> io::Result<Controller> {
        let failed = Arc::new(failed);
        let (mut pools, mut mailboxes) = (Vec::new(), Vec::new());
        for _ in 0..options.workers.max(1) {
            let (pool, mailbox) = Mailbox::new()?;
            pools.push(pool);
            mailboxes.push(mailbox);
        }
        let shared = Arc::new(Shared::new(mailboxes));
        let mut controller = Controller { shared: shared.clone(), threads: Vec::new() };
        for (number, (poll, jobs)) in pools.into_iter().enumerate() {
            let worker = Worker::new(shared.clone(), poll, jobs);
            let name = format!("{}-io-{number}", options.name);
            let (failed, panicked) = (failed.clone(), failed.clone());
            let run = move || {
                if let Err(error) = worker.run() {
                    failed(format!("cannot wait for sockets: {error}"));
                }
            };
            // If this fails, dropping the controller stops those that are running.
            controller.threads.push(spawn_guarded(name, run, move |reason| panicked(reason))?);
        }
        Ok(controller)
    }

    /// The way in, for those who have sockets to serve.
    pub fn sockets(&self) -> Arc<dyn Sockets> {
        self.shared.clone()
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.shared.stop();
        for thread in self.threads.drain(..) {
            // A worker that panicked has said so already.
            let _ = thread.join();
        }
    }
}

/// Sockets that one thread serves beside other work: it waits for them and whatever else wakes it.
pub struct OwnSockets {
    shared: Arc<Shared>,
    /// What that thread calls.
    pub(super) worker: Worker,
}

impl OwnSockets {
    /// None yet.
    ///
    /// # Errors
    /// The system cannot watch sockets.
    pub fn new() -> io::Result<OwnSockets> {
        let ((poll, jobs), mailbox) = Mailbox::new()?;
        let shared = Arc::new(Shared::new(vec![mailbox]));
        Ok(OwnSockets { worker: Worker::new(Arc::clone(&shared), poll, jobs), shared })
    }

    /// The way in, for those who have sockets to serve.
    pub fn sockets(&self) -> Arc<dyn Sockets> {
        self.shared.clone()
    }

    /// Wakes the thread that waits for them.
    pub fn waker(&self) -> std::task::Waker {
        Arc::clone(&self.shared).into()
    }
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.mailboxes.iter().for_each(Mailbox::wake);
    }
}

/// What all workers share.
pub(super) struct Shared {
    mailboxes: Vec<Mailbox>,
    turn: AtomicUsize,
    ids: AtomicU64,
    stopping: AtomicBool,
    /// For lines that the other side of a connection can cause.
    pub(super) log_limit: LogLimit,
}

impl Shared {
    fn new(mailboxes: Vec<Mailbox>) -> Shared {
        Shared {
            mailboxes,
            turn: AtomicUsize::new(0),
            ids: AtomicU64::new(WAKER.0 as u64 + 1),
            stopping: AtomicBool::new(false),
            log_limit: LogLimit::default(),
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.mailboxes.iter().for_each(Mailbox::wake);
    }

    pub(super) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Workers take turns.
    fn next_mailbox(&self) -> &Mailbox {
        &self.mailboxes[self.turn.fetch_add(1, Ordering::Relaxed) % self.mailboxes.len()]
    }

    pub(super) fn place(&self, newcomer: Newcomer) {
        self.next_mailbox().put(Job::Adopt(newcomer));
    }
}

impl Sockets for Shared {
    fn listen(
        &self,
        listener: std::net::TcpListener,
        options: ListenOptions,
        session: SessionFactory,
    ) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let mut listener = TcpListener::from_std(listener);
        let (mailbox, token) = (self.next_mailbox(), Token(self.next_id() as usize));
        mailbox.registry.register(&mut listener, token, Interest::READABLE)?;
        mailbox.put(Job::Listen(token, listener, Door::new(options, session)));
        Ok(())
    }

    fn adopt(&self, stream: std::net::TcpStream, max_output_bytes: usize, session: MakeSession) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        let peer = stream.peer_addr()?;
        let (id, limits) = (self.next_id(), OutputLimits { own_bytes: max_output_bytes, shared: None });
        self.place(Newcomer { id, stream: TcpStream::from_std(stream), peer, limits, session, seat: None });
        Ok(())
    }
}

/// The way to one worker.
struct Mailbox {
    jobs: Sender<Job>,
    waker: Waker,
    registry: Registry,
}

impl Mailbox {
    fn new() -> io::Result<((Poll, Receiver<Job>), Mailbox)> {
        let poll = Poll::new()?;
        let (jobs, inbox) = crossbeam_channel::unbounded();
        let mailbox =
            Mailbox { jobs, waker: Waker::new(poll.registry(), WAKER)?, registry: poll.registry().try_clone()? };
        Ok(((poll, inbox), mailbox))
    }

    /// A worker that has ended needs no more jobs: they are dropped.
    fn put(&self, job: Job) {
        if self.jobs.send(job).is_ok() {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            warn!("cannot wake a worker: {error}");
        }
    }
}

/// Something new for a worker.
pub(super) enum Job {
    /// A connection.
    Adopt(Newcomer),
    /// A listener, already registered.
    Listen(Token, TcpListener, Door),
}

/// A connection on its way to its worker.
pub(super) struct Newcomer {
    pub(super) id: u64,
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) limits: OutputLimits,
    pub(super) session: MakeSession,
    pub(super) seat: Option<Seat>,
}
