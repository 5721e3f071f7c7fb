//! The sending side of one socket, for any thread.

use std::io::ErrorKind;
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use log::debug;

use super::Stream;
use crate::runtime::session::Output;

/// Capacity that a buffer may keep once it is empty: idle connections must cost next to nothing, and a busy one should
/// not allocate anew for every small answer.
const RETAINED_BYTES: usize = 16 << 10;
/// The same for connections that this node has made, which are few: enough for a batch of entries to a peer.
const RETAINED_OWN_BYTES: usize = 64 << 10;

/// A connection with no more than this in its queue is not closed because others have too much in theirs.
const FAIR_BYTES: usize = 1 << 20;

/// How much may be queued.
#[derive(Clone)]
pub(in crate::runtime) struct OutputLimits {
    /// On one connection.
    pub own_bytes: usize,
    /// On this one and others together, if that is limited: those of one listener.
    pub shared: Option<Arc<SharedLimit>>,
}

/// What several connections have queued together, and how much that may be.
pub(in crate::runtime) struct SharedLimit {
    pub limit_bytes: usize,
    pub queued_bytes: AtomicUsize,
}

impl OutputLimits {
    fn retained_bytes(&self) -> usize {
        if self.shared.is_some() { RETAINED_BYTES } else { RETAINED_OWN_BYTES }
    }

    fn are_broken_by(&self, queued: usize) -> bool {
        let together = |shared: &Arc<SharedLimit>| shared.queued_bytes.load(Ordering::Relaxed) > shared.limit_bytes;
        queued > self.own_bytes || (queued > FAIR_BYTES && self.shared.as_ref().is_some_and(together))
    }
}

/// The sending side of one socket.
///
/// What is written is queued; [`flush`](Output::flush) hands all of it to the non-blocking socket in one system call,
/// from whatever thread. What the socket does not take goes out when there is room, where the socket is served. Once the socket is broken or closed, writes are swallowed: whoever has an answer need not care.
pub struct Connection {
    id: u64,
    peer: SocketAddr,
    limits: OutputLimits,
    outgoing: Mutex<Outgoing>,
    /// How much is queued in there, for those who need not wait until a system call has ended.
    queued: AtomicUsize,
}

struct Outgoing {
    /// `None` once the connection is over: the references of whoever serves the socket are then the last, and the
    /// descriptor is closed even while others still hold the [`Connection`].
    stream: Option<Arc<dyn Stream>>,
    buffer: Vec<u8>,
    /// How many bytes of `buffer`, from its front, the socket has taken.
    sent: usize,
    /// How many bytes of `buffer` the shared limit knows of.
    counted: usize,
}

impl Connection {
    /// The sending side of `stream`. More in the queue than the limits allow breaks the connection.
    pub(super) fn new(id: u64, peer: SocketAddr, limits: OutputLimits, stream: Arc<dyn Stream>) -> Self {
        let outgoing = Outgoing { stream: Some(stream), buffer: Vec::new(), sent: 0, counted: 0 };
        Connection { id, peer, limits, outgoing: Mutex::new(outgoing), queued: AtomicUsize::new(0) }
    }

    /// A number that no other connection of the same [`Sockets`](super::Sockets) has or had.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The other side's address.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Lets `encode` append to the queue itself, which saves a copy. `None` if the connection is over.
    pub fn append<R>(&self, encode: impl FnOnce(&mut Vec<u8>) -> R) -> Option<R> {
        let mut outgoing = self.outgoing();
        outgoing.stream.as_ref()?;
        outgoing.make_room();
        let result = encode(&mut outgoing.buffer);
        self.count(&mut outgoing);
        if self.limits.are_broken_by(outgoing.queued()) {
            debug!("connection {} to {}: {} bytes queued are too many, closing", self.id, self.peer, outgoing.queued());
            self.end(&mut outgoing);
        }
        Some(result)
    }

    /// Closes the connection at once; what is queued is dropped. Whoever serves the socket notices by itself.
    pub fn close(&self) {
        self.end(&mut self.outgoing());
    }

    /// Whether the connection is, as far as is known, alive.
    pub fn is_open(&self) -> bool {
        self.outgoing().stream.is_some()
    }

    /// Tells how much is in the buffer now, to the shared limit as well.
    fn count(&self, outgoing: &mut Outgoing) {
        self.queued.store(outgoing.queued(), Ordering::Relaxed);
        let Some(shared) = &self.limits.shared else { return };
        let (before, now) = (outgoing.counted, outgoing.buffer.len());
        outgoing.counted = now;
        if now >= before {
            shared.queued_bytes.fetch_add(now - before, Ordering::Relaxed);
        } else {
            shared.queued_bytes.fetch_sub(before - now, Ordering::Relaxed);
        }
    }

    fn end(&self, outgoing: &mut Outgoing) {
        outgoing.close();
        self.count(outgoing);
    }

    fn outgoing(&self) -> MutexGuard<'_, Outgoing> {
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Output for Connection {
    fn write(&self, bytes: &[u8]) {
        self.append(|buffer| buffer.extend_from_slice(bytes));
    }

    fn write_all_of(&self, bytes: &mut Vec<u8>) {
        self.append(|buffer| if buffer.is_empty() { std::mem::swap(buffer, bytes) } else { buffer.append(bytes) });
        // Those that a connection which is over has not taken.
        bytes.clear();
    }

    fn flush(&self) {
        let mut outgoing = self.outgoing();
        if let Err(error) = outgoing.send(self.limits.retained_bytes()) {
            debug!("connection {} to {}: {error}", self.id, self.peer);
            outgoing.close();
        }
        self.count(&mut outgoing);
    }

    fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }
}

impl Outgoing {
    fn queued(&self) -> usize {
        self.buffer.len() - self.sent
    }

    fn send(&mut self, retained_bytes: usize) -> std::io::Result<()> {
        let Some(stream) = &self.stream else { return Ok(()) };
        while self.sent < self.buffer.len() {
            match stream.send(&self.buffer[self.sent..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    stream.stalled();
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.buffer.clear();
        self.sent = 0;
        if self.buffer.capacity() > retained_bytes {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    /// Moves what is left to the front once that costs less than what it frees.
    fn make_room(&mut self) {
        if self.sent > self.queued() {
            self.buffer.drain(..self.sent);
            self.sent = 0;
        }
    }

    fn close(&mut self) {
        if let Some(stream) = self.stream.take() {
            // An error means that the other side was faster.
            let _ = stream.shutdown(Shutdown::Both);
        }
        (self.buffer, self.sent) = (Vec::new(), 0);
    }
}
