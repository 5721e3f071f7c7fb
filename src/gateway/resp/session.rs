//! `RAFT SESSION` and `RAFT DO`: commands that take effect once, however often they are sent.

use bytes::Bytes;

use super::answer::Shape;
use super::command::{self, Action, Ran, number};
use super::connection::Client;
use super::frame::Frame;
use super::raft;
use crate::consensus::{Payload, SessionSequence};
use crate::machine::command::{Command, Query, Step};
use crate::runtime::Operation;

/// `RAFT SESSION`
pub fn open() -> Ran {
    Ok(Action::Submit(Operation::Write(Payload(Command::OpenSession.encode())), Shape::Session))
}

/// The words of `RAFT DO session sequence command...`: the two numbers, and the command.
pub fn stamped(request: &[Bytes]) -> Option<(&Bytes, &Bytes, &[Bytes])> {
    match request {
        [raft, name, session, sequence, command @ ..]
            if !command.is_empty() && raft.eq_ignore_ascii_case(b"RAFT") && name.eq_ignore_ascii_case(b"DO") =>
        {
            Some((session, sequence, command))
        }
        _ => None,
    }
}

/// Runs a command once. A query takes the way of a write, so that it is answered the same when it is sent again.
pub fn run_once(client: &mut Client, session: &[u8], sequence: &[u8], words: &[Bytes]) -> Ran {
    let stamp = SessionSequence { session: number(session)?, sequence: number(sequence)? };
    if stamp.sequence == 0 {
        return Err(Frame::error("ERR sequence numbers of a session begin with 1"));
    }
    // Asked beforehand: some of the others change the connection, and these may nest without end.
    if !command::is_about_data(words) || raft::only(words).is_some() || stamped(words).is_some() {
        return Err(not_in_a_session());
    }
    let Action::Submit(operation, shape) = command::run_plain(client, words)? else { return Err(not_in_a_session()) };
    let payload = match operation {
        Operation::Write(payload) if shape != Shape::Session => payload,
        Operation::Read(query) => Payload(as_transaction(&query)?),
        _ => return Err(not_in_a_session()),
    };
    Ok(Action::Submit(Operation::SessionWrite(stamp, payload), Shape::InSession(Box::new(shape))))
}

fn as_transaction(query: &[u8]) -> Result<Bytes, Frame> {
    match Query::decode(query) {
        Ok(Query::Scan { .. } | Query::Keys { .. }) => {
            Err(Frame::error("ERR KEYS and SCAN cannot be run in a session: use RAFT LIST, or ask outside of it"))
        }
        Ok(query) => Ok(Command::Transaction { guards: Vec::new(), steps: vec![Step::Query(query)] }.encode()),
        Err(error) => Err(Frame::error(format!("ERR {error}"))),
    }
}

fn not_in_a_session() -> Frame {
    Frame::error("ERR only commands on keys, topics and messages can be run in a session")
}
