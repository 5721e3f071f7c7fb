//! The client's session: writes that are safe to send again.

use std::time::Instant;

use super::error::Effect;
use super::{Client, Error, Reply, count, unexpected};

/// A session, and the numbers it has used.
pub(super) struct Session {
    id: u64,
    /// The last number; the first is 1.
    last: u64,
}

impl Client {
    /// Sends a write until there is an answer, or no time is left. A session that has ended without the write ever having
    /// been in it is replaced by a new one.
    pub(super) fn request_once(&mut self, args: &[&[u8]]) -> Result<(Reply, usize), Error> {
        let deadline = self.deadline();
        match self.request_in_session(args, deadline) {
            Err(Error::NoSession(_)) => self.request_in_session(args, deadline),
            result => result,
        }
    }

    fn request_in_session(&mut self, args: &[&[u8]], deadline: Instant) -> Result<(Reply, usize), Error> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.open_session(deadline)?,
        };
        session.last += 1;
        let [id, sequence] = [session.id, session.last].map(|number| number.to_string());
        self.session = Some(session);
        let request = [&[&b"RAFT"[..], b"DO", id.as_bytes(), sequence.as_bytes()], args].concat();
        self.request(&request, Effect::Once, deadline)
    }

    /// Opens a session. One whose id never arrives is left to end.
    fn open_session(&mut self, deadline: Instant) -> Result<Session, Error> {
        let (reply, _) = self.request(&[b"RAFT", b"SESSION"], Effect::Read, deadline)?;
        count(reply).map(|id| Session { id, last: 0 }).map_err(|reply| unexpected(&reply))
    }
}
