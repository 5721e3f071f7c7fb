//! The Redis protocol, RESP2 and RESP3, pipelined: one connection's bytes to requests, and outcomes to its answers.
//!
//! A request's way: `parser` cuts it out of the input, `command` finds out what it means, it gets a place in
//! `slots` and goes to the node; its outcome comes back to that place from whatever thread, `answer` and `frame`
//! put it into the client's words, and it leaves in its turn. `docs/REDIS.md` lists the commands.

mod answer;
mod catalogue;
mod command;
mod connection;
mod data;
mod frame;
mod info;
mod lists;
mod parser;
mod queue;
mod raft;
mod session;
mod slots;
#[cfg(test)]
mod tests;
mod transaction;
mod values;
mod waiting;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use self::answer::Shape;
use self::command::Action;
use self::connection::Client;
use self::frame::Frame;
use self::parser::{Parsed, Parser, ProtocolError};
use self::slots::Slots;
pub use self::waiting::Waiters;
use crate::config::Limits;
use crate::consensus::{NodeId, Payload};
use crate::machine::command::{Change, Command};
use crate::runtime::session::{Close, Flow, Output, Session};
use crate::runtime::{ClientRequest, NodeHandle, Operation, Reply, ReplySink};
use crate::transport::Failure;

/// What all connections have in common.
#[derive(Clone, Debug)]
pub struct RespOptions {
    /// The limits of raft.ini: here, the largest request.
    pub limits: Limits,
    /// Ids and labels of the cluster's nodes.
    pub nodes: Vec<(NodeId, String)>,
    /// How long a request waits for room in the node's inbox before it is refused.
    pub patience: Duration,
    /// Clients that wait for messages: to be [told](NodeHandle::tell_of_woken) of them.
    pub waiters: Waiters,
}

/// One connection of a Redis client.
pub struct RespSession {
    handle: NodeHandle,
    client: Client,
    parser: Parser,
    /// The request at hand; empty in between, kept for its memory.
    request: Vec<Bytes>,
    slots: Arc<Slots>,
    /// What the slots said last: whether one more request may be taken.
    has_room: bool,
    /// Requests were handed in, and the event handler does not know yet.
    has_handed_in: bool,
    /// A request for which the node's inbox had no room, and since when.
    turned_away: Option<(ClientRequest, Instant)>,
    /// The request at hand has to be run again, later.
    is_held: bool,
    /// The request before the one at hand waits for a message.
    blocked: Option<Blocked>,
    /// The client sends no more.
    has_ended: bool,
    /// The connection ends so, once everything is answered.
    closing: Option<Close>,
}

#[derive(Clone, Copy)]
struct Blocked {
    ticket: u64,
    until: Option<Instant>,
}

impl RespSession {
    /// A session on a new connection, whose number is unique in this process. Answers go to `output`.
    pub fn new(options: Arc<RespOptions>, handle: NodeHandle, connection: u64, output: Arc<dyn Output>) -> Self {
        RespSession {
            handle,
            parser: Parser::new(options.limits.max_request_bytes),
            request: Vec::new(),
            slots: Slots::new(options.clone(), output),
            client: Client::new(connection, options),
            has_room: false,
            has_handed_in: false,
            turned_away: None,
            is_held: false,
            blocked: None,
            has_ended: false,
            closing: None,
        }
    }

    /// Takes requests while there are any, and room for them.
    fn take_requests(&mut self, input: &mut BytesMut) -> Flow {
        while self.closing.is_none() {
            if let Some(flow) = self.wait(!input.is_empty()) {
                return flow;
            }
            if !self.hand_in_again() || !self.has_room() || !self.run_held() {
                return Flow::Pause;
            }
            match self.parser.next(input, &mut self.request) {
                Ok(Parsed::Request) => self.execute(),
                Ok(Parsed::TooLarge(size)) => self.refuse_too_large(size),
                Ok(Parsed::Incomplete) => return Flow::Continue,
                Err(error) => self.refuse_the_rest(error),
            }
        }
        Flow::Pause
    }

    fn execute(&mut self) {
        let (ran, forward) = command::run(&mut self.client, &self.request);
        self.is_held = ran == Ok(Action::Later);
        if self.is_held {
            return;
        }
        self.request.clear();
        match ran {
            Ok(Action::Reply(frame)) | Err(frame) => self.answer(&frame),
            Ok(Action::Submit(operation, shape)) => self.submit(operation, shape, forward),
            Ok(Action::Wait(topics, patience)) => self.block(&topics, patience, forward),
            Ok(Action::Later) => {}
            Ok(Action::Quit) => {
                self.answer(&Frame::Simple("OK"));
                self.closing = Some(Close::Requested);
            }
        }
    }

    /// Runs the request that was to be run later; whether none is left.
    fn run_held(&mut self) -> bool {
        if self.is_held {
            self.execute();
        }
        !self.is_held
    }

    /// Waits for a message of these topics. A client that is leaving does not wait.
    fn block(&mut self, topics: &[Bytes], patience: Option<Duration>, forward: bool) {
        // Copied, since they outlive the request.
        let topics: Vec<Bytes> = topics.iter().map(|topic| Bytes::copy_from_slice(topic)).collect();
        if self.has_ended {
            let pop = Command::from(Change::Pop { topics }).encode();
            return self.submit(Operation::Write(Payload(pop)), Shape::PoppedFrom, forward);
        }
        let bytes = topics.iter().map(Bytes::len).sum();
        let (slot, has_room) = self.slots.open(Shape::PoppedFrom, self.client.protocol(), bytes);
        self.has_room = has_room;
        let (node, connection, slots) = (self.handle.clone(), self.client.id(), self.slots.clone());
        let until = patience.and_then(|patience| Instant::now().checked_add(patience));
        let waiter = waiting::Client { topics, node, connection, forward, slots, slot };
        self.blocked = Some(Blocked { ticket: self.client.options().waiters.join(waiter), until });
    }

    /// What to do while a message is waited for; nothing once that is over.
    fn wait(&mut self, has_input: bool) -> Option<Flow> {
        let Blocked { ticket, until } = self.blocked?;
        let waiters = &self.client.options().waiters;
        let is_late = until.is_some_and(|until| until <= Instant::now());
        if is_late || self.has_ended {
            waiters.leave(ticket);
        }
        if !waiters.is_waiting(ticket) {
            self.blocked = None;
            return None;
        }
        Some(match until {
            // Nobody tells when it is over.
            _ if has_input => Flow::Pause,
            Some(until) if !is_late => Flow::Until(until),
            _ => Flow::Continue,
        })
    }

    fn answer(&mut self, frame: &Frame) {
        self.has_room = self.slots.answer(frame, self.client.protocol());
    }

    fn submit(&mut self, operation: Operation, shape: Shape, forward: bool) {
        let (slot, has_room) = self.slots.open(shape, self.client.protocol(), operation.payload_bytes());
        self.has_room = has_room;
        let reply = Reply::new(self.slots.clone(), slot);
        let request = ClientRequest { connection: self.client.id(), operation, forward, reply };
        match self.handle.enqueue(request) {
            Ok(()) => self.has_handed_in = true,
            Err(request) => self.turned_away = Some((request, Instant::now())),
        }
    }

    /// Hands in the request that was turned away; whether none is left. It must not wait for ever: its client should
    /// learn that the node has too much to do.
    fn hand_in_again(&mut self) -> bool {
        let Some((request, since)) = self.turned_away.take() else { return true };
        match self.handle.enqueue(request) {
            Ok(()) => {
                self.has_handed_in = true;
                true
            }
            Err(request) if since.elapsed() >= self.client.options().patience => {
                request.reply.send(Err(Failure::inbox_is_full()));
                true
            }
            Err(request) => {
                self.turned_away = Some((request, since));
                false
            }
        }
    }

    /// Whether one more request may be taken, once what can leave has left.
    fn has_room(&mut self) -> bool {
        self.has_room = self.has_room || self.slots.has_room() || {
            self.slots.flush();
            self.slots.has_room()
        };
        self.has_room
    }

    fn refuse_too_large(&mut self, size: u64) {
        let limit = self.client.options().limits.max_request_bytes;
        self.answer(&Frame::error(format!("ERR this request has {size} bytes, more than MaxRequestBytes = {limit}")));
    }

    fn refuse_the_rest(&mut self, ProtocolError(what): ProtocolError) {
        self.answer(&Frame::error(format!("ERR Protocol error: {what}")));
        self.closing = Some(Close::Broken(format!("protocol error: {what}")));
    }
}

impl Session for RespSession {
    fn receive(&mut self, input: &mut BytesMut) -> Result<Flow, Close> {
        // What was said before this turn may be out of date.
        self.has_room = false;
        let flow = self.take_requests(input);
        // Once for all that have arrived together: they shall share a turn.
        if std::mem::take(&mut self.has_handed_in) {
            self.handle.turn_or_ring();
        }
        self.slots.flush();
        let Some(close) = &self.closing else { return Ok(flow) };
        // What follows is not looked at. The connection closes once all that came before is answered.
        input.clear();
        if self.slots.is_idle() { Err(close.clone()) } else { Ok(Flow::Pause) }
    }

    fn finished(&self) -> bool {
        self.turned_away.is_none() && self.slots.is_idle()
    }

    /// One write alone is most often of a client that waits for it, and reads are answered soon.
    fn wants_acknowledgement(&self) -> bool {
        self.slots.waiting_writes() > 1
    }

    fn client_ended(&mut self) {
        self.has_ended = true;
        if let Some(blocked) = self.blocked {
            self.client.options().waiters.leave(blocked.ticket);
        }
    }
}

impl Drop for RespSession {
    fn drop(&mut self) {
        self.slots.close();
        self.client_ended();
    }
}
