//! Sockets as tasks: one for each connection, one for each listener.

use std::cell::RefCell;
use std::future::pending;
use std::io::{self, ErrorKind, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{sleep, sleep_until};

use super::spawn_guarded_task;
use crate::runtime::sockets::{
    ACCEPT_PAUSE, Door, ListenOptions, MakeSession, Next, OutputLimits, READ_BYTES, Readiness, Seat, SessionFactory,
    Socket, Sockets, Stream, Wanted,
};
use crate::runtime::{Input, LogLimit, NodeHandle};

thread_local! {
    /// Where the bytes are read to first: sockets without input hold no memory for it.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
}

/// Serves sockets by tasks.
#[derive(Clone)]
pub(super) struct TaskSockets(Arc<Shared>);

/// What all sockets of a runtime share.
struct Shared {
    tasks: Handle,
    ids: AtomicU64,
    /// For lines that the other side of a connection can cause.
    log_limit: LogLimit,
    node: NodeHandle,
}

impl TaskSockets {
    pub fn new(tasks: Handle, node: NodeHandle) -> Self {
        let (ids, log_limit) = (AtomicU64::new(1), LogLimit::default());
        TaskSockets(Arc::new(Shared { tasks, ids, log_limit, node }))
    }

    pub fn tasks(&self) -> &Handle {
        &self.0.tasks
    }

    fn spawn(&self, name: &str, run: impl Future<Output = ()> + Send + 'static) {
        let node = self.0.node.clone();
        spawn_guarded_task(&self.0.tasks, name, run, move |reason| node.deliver(Input::Failed { reason }));
    }

    /// Serves a connection by a task of its own.
    fn serve(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        limits: OutputLimits,
        session: MakeSession,
        seat: Option<Seat>,
    ) {
        let (shared, id) = (Arc::clone(&self.0), self.0.ids.fetch_add(1, Ordering::Relaxed));
        self.spawn("connection", async move {
            let stream = Arc::new(TaskStream { stream, stalled: Notify::new() });
            let socket = Socket::new(stream.clone(), (id, peer), limits, session, seat);
            run(socket, &stream, &shared.log_limit).await;
        });
    }
}

impl Sockets for TaskSockets {
    fn listen(
        &self,
        listener: std::net::TcpListener,
        options: ListenOptions,
        session: SessionFactory,
    ) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let _inside = self.0.tasks.enter();
        let listener = TcpListener::from_std(listener)?;
        self.spawn("listener", accept(self.clone(), listener, Door::new(options, session)));
        Ok(())
    }

    fn adopt(&self, stream: std::net::TcpStream, max_output_bytes: usize, session: MakeSession) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        let peer = stream.peer_addr()?;
        let _inside = self.0.tasks.enter();
        let limits = OutputLimits { own_bytes: max_output_bytes, shared: None };
        self.serve(TcpStream::from_std(stream)?, peer, limits, session, None);
        Ok(())
    }

    fn tasks(&self) -> Option<Handle> {
        Some(self.0.tasks.clone())
    }
}

async fn accept(sockets: TaskSockets, listener: TcpListener, mut door: Door) {
    loop {
        match door.admit(listener.accept().await, &sockets.0.log_limit) {
            Ok(Some((stream, peer, seat))) => {
                let (limits, session) = door.terms();
                sockets.serve(stream, peer, limits, session, Some(seat));
            }
            Ok(None) => {}
            Err(()) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Gives a socket its turns until it is over.
async fn run(mut socket: Socket, stream: &TaskStream, log_limit: &LogLimit) {
    loop {
        let next = SCRATCH.with_borrow_mut(|scratch| socket.turn(scratch, Instant::now(), log_limit));
        let readiness = match next {
            Next::Over => return,
            Next::Again => {
                tokio::task::yield_now().await;
                continue;
            }
            Next::Wait => stream.readiness(socket.wanted()).await,
            Next::At(at) => tokio::select! {
                biased;
                readiness = stream.readiness(socket.wanted()) => readiness,
                () = sleep_until(at.into()) => continue,
            },
        };
        socket.note(readiness);
    }
}

/// A socket of tokio, which other threads write to as well.
struct TaskStream {
    stream: TcpStream,
    /// Something waits for room.
    stalled: Notify,
}

impl TaskStream {
    /// What the next event says that is wanted.
    async fn readiness(&self, wanted: Wanted) -> Readiness {
        let arrived = async {
            match wanted.input {
                true => self.stream.ready(Interest::READABLE | Interest::ERROR).await,
                false if wanted.end => self.stream.ready(Interest::ERROR).await,
                // Nothing new can be heard of it.
                false => pending().await,
            }
        };
        let has_room = async {
            if !wanted.room {
                self.stalled.notified().await;
            }
            self.stream.writable().await
        };
        tokio::select! {
            biased;
            ready = arrived => {
                let ready = ready.unwrap_or(tokio::io::Ready::ERROR);
                Readiness {
                    readable: true,
                    writable: false,
                    ended: ready.is_read_closed() || ready.is_error(),
                    gone: ready.is_error(),
                }
            }
            _ = has_room => Readiness { writable: true, ..Readiness::default() },
        }
    }
}

impl Stream for TaskStream {
    fn receive(&self, into: &mut [u8]) -> io::Result<usize> {
        let mut all = None;
        let received = self.stream.try_io(Interest::READABLE, || {
            let count = (&*SockRef::from(&self.stream)).read(into)?;
            if count == 0 || count == into.len() {
                return Ok(count);
            }
            // The socket is empty, and need not be asked again to find that out: what comes next is a new event.
            all = Some(count);
            Err(ErrorKind::WouldBlock.into())
        });
        all.map_or(received, Ok)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.try_write(bytes)
    }

    fn socket(&self) -> SockRef<'_> {
        SockRef::from(&self.stream)
    }

    fn stalled(&self) {
        self.stalled.notify_one();
    }
}
