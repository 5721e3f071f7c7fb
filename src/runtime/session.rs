//! One connection's protocol without its socket: bytes in, bytes out. What owns the socket is the runtime's business.

use std::time::Instant;

use bytes::BytesMut;

/// The protocol of one connection. Called by one thread at a time, and dropped when the connection is over.
pub trait Session: Send {
    /// Bytes have arrived (or there is room again after [`Flow::Pause`]): takes every complete request off the front of
    /// `input` and leaves an incomplete one there. An error closes the connection once what was queued is sent; its text
    /// goes to the log.
    fn receive(&mut self, input: &mut BytesMut) -> Result<Flow, Close>;

    /// Whether every request received so far has its answer in the output. Until then a connection that receives no
    /// more stays open for the answers.
    fn finished(&self) -> bool {
        true
    }

    /// Whether the client should hear at once that what it has sent has arrived, since the answers take a while. Otherwise the
    /// acknowledgement waits for an answer to leave with, and a client with Nagle's algorithm (RFC 896) keeps back what it
    /// has to send in the meantime.
    fn wants_acknowledgement(&self) -> bool {
        false
    }

    /// The client sends no more than what may still be on its way to `receive`, and has perhaps gone: what only waits for
    /// something need not any longer. May be told more than once.
    fn client_ended(&mut self) {}
}

/// What the socket's owner should do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on reading.
    Continue,
    /// Go on reading, and call again at this time, though nothing has arrived.
    Until(Instant),
    /// Stop reading and call again soon: the node's inbox, or the connection's output, is full.
    Pause,
}

/// Why a connection must be closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Close {
    /// The client asked for it.
    Requested,
    /// The other side broke the protocol: what it sent, for the log.
    Broken(String),
}

/// Where a session's answers go. Any thread may write; nothing blocks.
pub trait Output: Send + Sync {
    /// Queues bytes.
    fn write(&self, bytes: &[u8]);

    /// Queues all of `bytes`, which is empty afterwards, and may have other memory than before: that saves copying.
    fn write_all_of(&self, bytes: &mut Vec<u8>) {
        self.write(bytes);
        bytes.clear();
    }

    /// Sends what is queued as far as the socket takes it at once; the rest goes out when there is room.
    fn flush(&self);

    /// Bytes queued that the socket has not taken yet.
    fn queued(&self) -> usize;
}
