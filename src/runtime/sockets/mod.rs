//! Sockets and their sessions, whoever waits for them: a runtime's [`Sockets`] only knows when a socket is ready, and gives it
//! its turn.

mod connection;
mod listener;
mod socket;

use std::io::{self, ErrorKind};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;

pub use self::connection::Connection;
pub(super) use self::connection::OutputLimits;
pub(super) use self::listener::Door;
pub use self::listener::{ListenOptions, Seat, Seats, bind};
#[cfg(feature = "async")]
pub(super) use self::socket::Wanted;
pub(super) use self::socket::{Next, Readiness, Socket};
use super::session::Session;

/// Bytes read from a socket at once.
pub(super) const READ_BYTES: usize = 64 << 10;
/// How long to wait after the system refused to accept, for lack of descriptors mostly.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Makes the session of one connection.
pub type MakeSession = Box<dyn FnOnce(&Arc<Connection>) -> Box<dyn Session> + Send>;

/// Makes the session of each connection that is accepted.
pub type SessionFactory = Arc<dyn Fn(&Arc<Connection>) -> Box<dyn Session> + Send + Sync>;

/// Serves sockets, for transports and gateways: every runtime has one.
pub trait Sockets: Send + Sync {
    /// Serves the connections of a listener. `session` is called for each, where it will be served.
    ///
    /// # Errors
    /// The system cannot watch the listener.
    fn listen(&self, listener: TcpListener, options: ListenOptions, session: SessionFactory) -> io::Result<()>;

    /// Serves a connection that is already up, and breaks it when more than `max_output_bytes` are queued. `session` is called
    /// where it will be served; a runtime that has stopped drops it uncalled.
    ///
    /// # Errors
    /// The connection is broken already.
    fn adopt(&self, stream: TcpStream, max_output_bytes: usize, session: MakeSession) -> io::Result<()>;

    /// Where those who use sockets can wait in tasks. Without tasks they need threads.
    #[cfg(feature = "async")]
    fn tasks(&self) -> Option<tokio::runtime::Handle> {
        None
    }
}

/// A connected socket that never blocks: what a runtime's own kind of socket has to offer.
pub(super) trait Stream: Send + Sync {
    /// Takes what has arrived, as far as there is room. Less than that: it was all. 0: the other side sends no more.
    fn receive(&self, into: &mut [u8]) -> io::Result<usize>;

    /// Sends what the socket takes at once.
    fn send(&self, bytes: &[u8]) -> io::Result<usize>;

    /// The socket itself.
    fn socket(&self) -> SockRef<'_>;

    /// Ends one direction, or both.
    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.socket().shutdown(how)
    }

    /// Acknowledges at once what was received, where the system can be told to. It need not succeed: the other side hears of
    /// it in any case, with the next bytes or after 40 ms or so.
    fn acknowledge(&self) {
        #[cfg(target_os = "linux")]
        let _ = self.socket().set_tcp_quickack(true);
    }

    /// Something could not be sent for want of room, by any thread. From now on whoever waits for this socket must wait for
    /// room, too.
    fn stalled(&self) {}
}

/// Errors of `accept` that concern the one connection, not the listener.
pub fn is_the_others_fault(error: &io::Error) -> bool {
    use ErrorKind::*;
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}
