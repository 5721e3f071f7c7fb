//! `MULTI`, `EXEC` and their like: commands are collected here, and run as one entry of the log.
//!
//! What a client watches must not change between `WATCH` and `EXEC`. `WATCH` reads where the log is, so that whatever the
//! client reads afterwards is of that moment or later, and the machine compares when it applies the transaction.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::answer::Shape;
use super::command::{self, Action, Ran, find, ok, read, reply, wrong_arity};
use super::connection::Client;
use super::data::arguments;
use super::frame::Frame;
use super::{raft, session};
use crate::consensus::Payload;
use crate::machine::command::{Change, Command, Query, Step, Watched};
use crate::runtime::Operation;

/// What a queued command costs besides its own bytes.
const STEP_BYTES: usize = 16;

/// A connection's transaction, and what it watches.
#[derive(Default)]
pub struct Transaction {
    /// What was queued since `MULTI`.
    queue: Option<Queue>,
    watched: Vec<(Vec<Bytes>, Moment)>,
}

#[derive(Default)]
struct Queue {
    steps: Vec<Step>,
    parts: Vec<Part>,
    bytes: usize,
    /// A command was refused: nothing will run.
    is_broken: bool,
}

/// How a queued command is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// So, whatever the machine says.
    Known(Frame),
    /// As this wants the answer to the next step.
    Asked(Shape),
}

/// The log index of a `WATCH`: known once that is answered, and then none if it failed.
#[derive(Clone, Debug, Default)]
pub struct Moment(Arc<OnceLock<Option<u64>>>);

impl Moment {
    /// It is known.
    pub fn set(&self, index: Option<u64>) {
        // Whoever came first is right: there is one answer.
        let _ = self.0.set(index);
    }

    fn get(&self) -> Option<Option<u64>> {
        self.0.get().copied()
    }
}

impl PartialEq for Moment {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Moment {}

/// Runs a command while others are being queued: `None` if it is one that is not queued.
pub fn queue(client: &mut Client, request: &[Bytes]) -> Option<Ran> {
    client.transaction.queue.as_ref()?;
    let spec = request.first().and_then(|name| find(name));
    let name = spec.map_or("", |spec| spec.name);
    if matches!(name, "multi" | "exec" | "discard" | "watch" | "reset" | "quit") {
        let is_refused = spec.is_some_and(|spec| !spec.takes(request.len()));
        return is_refused.then(|| client.transaction.refuse(name));
    }
    let queued = step(client, name, request);
    let limit = usize::try_from(client.options().limits.max_request_bytes).unwrap_or(usize::MAX);
    let queue = client.transaction.queue.as_mut()?;
    Some(match queued.and_then(|queued| queue.add(queued, limit)) {
        Ok(()) => reply(Frame::Simple("QUEUED")),
        Err(why) => {
            *queue = Queue::broken();
            Err(why)
        }
    })
}

impl Transaction {
    /// Too few or too many arguments, of a command that is not queued. That breaks the transaction, as with those that are; with
    /// `EXEC` it ends, too.
    fn refuse(&mut self, name: &str) -> Ran {
        if name == "exec" {
            *self = Self::default();
            let why = "wrong number of arguments for 'exec' command";
            return Err(Frame::error(format!("EXECABORT Transaction discarded because of: {why}")));
        }
        self.queue = Some(Queue::broken());
        Err(wrong_arity(name))
    }
}

/// A command to be queued.
struct Queued {
    step: Option<Step>,
    part: Part,
    bytes: usize,
}

/// What a command comes to in a transaction.
fn step(client: &mut Client, name: &str, request: &[Bytes]) -> Result<Queued, Frame> {
    let is_simple = matches!(name, "ping" | "echo" | "select" | "unwatch");
    let is_elsewhere = raft::only(request).is_some() || session::stamped(request).is_some();
    // A command that is unknown gets the usual answer below.
    if is_elsewhere || (!name.is_empty() && !is_simple && !command::is_about_data(request)) {
        return Err(not_allowed());
    }
    match command::run_plain(client, request)? {
        Action::Submit(Operation::Write(payload), shape) => match Command::decode(&payload.0) {
            Ok(Command::Change(change)) => Ok(asked(Step::Change(change), shape, &payload)),
            _ => Err(not_allowed()),
        },
        Action::Submit(Operation::Read(payload), shape) => match Query::decode(&payload.0) {
            Ok(query) if query.is_bounded() => Ok(asked(Step::Query(query), shape, &payload)),
            _ => Err(not_allowed()),
        },
        Action::Reply(frame) => {
            // Copied, since it outlives the request.
            let frame =
                if let Frame::Bulk(bytes) = &frame { Frame::Bulk(Bytes::copy_from_slice(bytes)) } else { frame };
            let bytes = if let Frame::Bulk(bytes) = &frame { bytes.len() } else { 0 };
            Ok(Queued { step: None, part: Part::Known(frame), bytes })
        }
        Action::Wait(topics, _) => {
            let bytes = topics.iter().map(|topic| topic.len() + STEP_BYTES).sum();
            let topics = topics.iter().map(|topic| Bytes::copy_from_slice(topic)).collect();
            Ok(Queued { step: Some(Step::Change(Change::Pop { topics })), part: Part::Asked(Shape::PoppedFrom), bytes })
        }
        Action::Submit(..) | Action::Later | Action::Quit => Err(not_allowed()),
    }
}

fn asked(step: Step, shape: Shape, payload: &Payload) -> Queued {
    Queued { step: Some(step), part: Part::Asked(shape), bytes: payload.len() }
}

fn not_allowed() -> Frame {
    Frame::error("ERR Command not allowed inside a transaction")
}

impl Queue {
    fn broken() -> Self {
        Self { is_broken: true, ..Self::default() }
    }

    fn add(&mut self, queued: Queued, limit: usize) -> Result<(), Frame> {
        if self.is_broken {
            return Ok(());
        }
        self.bytes = self.bytes.saturating_add(queued.bytes + STEP_BYTES);
        if self.bytes > limit {
            let why = format!("ERR the transaction has more than MaxRequestBytes = {limit}: {STEP_BYTES} for each");
            return Err(Frame::error(format!("{why} command, and what it carries")));
        }
        self.steps.extend(queued.step);
        self.parts.push(queued.part);
        Ok(())
    }
}

/// `MULTI`
pub fn multi(client: &mut Client, _: &[Bytes]) -> Ran {
    if client.transaction.queue.is_some() {
        return Err(Frame::error("ERR MULTI calls can not be nested"));
    }
    client.transaction.queue = Some(Queue::default());
    ok()
}

/// `DISCARD`
pub fn discard(client: &mut Client, _: &[Bytes]) -> Ran {
    if client.transaction.queue.is_none() {
        return Err(Frame::error("ERR DISCARD without MULTI"));
    }
    client.transaction = Transaction::default();
    ok()
}

/// `WATCH key...`
pub fn watch(client: &mut Client, request: &[Bytes]) -> Ran {
    let Transaction { queue, watched } = &mut client.transaction;
    if queue.is_some() {
        return Err(Frame::error("ERR WATCH inside MULTI is not allowed"));
    }
    // Of those that failed the client was told, and tries again.
    watched.retain(|(_, moment)| moment.get() != Some(None));
    let keys: Vec<Bytes> = arguments(request).iter().map(|key| Bytes::copy_from_slice(key)).collect();
    let bytes = |keys: &[Bytes]| keys.iter().map(|key| key.len() + STEP_BYTES).sum::<usize>();
    let all = watched.iter().map(|(keys, _)| bytes(keys)).sum::<usize>() + bytes(&keys);
    let limit = client.options().limits.max_request_bytes;
    if all as u64 > limit {
        let why =
            format!("ERR the keys that are watched have more than MaxRequestBytes = {limit}: {STEP_BYTES} for each");
        return Err(Frame::error(format!("{why} key, and its own")));
    }
    let moment = Moment::default();
    client.transaction.watched.push((keys, moment.clone()));
    read(&Query::Index, Shape::Watching(moment))
}

/// `UNWATCH`
pub fn unwatch(client: &mut Client, _: &[Bytes]) -> Ran {
    // In a transaction it comes too late to make a difference.
    if client.transaction.queue.is_none() {
        client.transaction.watched = Vec::new();
    }
    ok()
}

/// `EXEC`
pub fn exec(client: &mut Client, _: &[Bytes]) -> Ran {
    let transaction = &mut client.transaction;
    if transaction.queue.is_none() {
        return Err(Frame::error("ERR EXEC without MULTI"));
    }
    if transaction.watched.iter().any(|(_, moment)| moment.get().is_none()) {
        return Ok(Action::Later);
    }
    let Transaction { queue, watched } = std::mem::take(transaction);
    let Queue { steps, parts, is_broken, .. } = queue.unwrap_or_default();
    let has_failed = watched.iter().any(|(_, moment)| moment.get() == Some(None));
    if is_broken || has_failed {
        return Err(Frame::error("EXECABORT Transaction discarded because of previous errors."));
    }
    let since = |(keys, moment): (Vec<Bytes>, Moment)| {
        let since = moment.get().flatten().unwrap_or_default();
        keys.into_iter().map(move |key| Watched { key, since })
    };
    let exec = Command::Exec { watched: watched.into_iter().flat_map(since).collect(), steps };
    Ok(Action::Submit(Operation::Write(Payload(exec.encode())), Shape::Exec(parts)))
}

/// The machine has run a transaction: the answers of its parts.
pub fn answers(parts: &[Part], answers: &[Bytes], frame: impl Fn(&Shape, &[u8]) -> Option<Frame>) -> Option<Frame> {
    let mut answers = answers.iter();
    let frames = parts.iter().map(|part| match part {
        Part::Known(frame) => Some(frame.clone()),
        Part::Asked(shape) => frame(shape, answers.next()?),
    });
    frames.collect::<Option<Vec<Frame>>>().map(Frame::Array)
}
