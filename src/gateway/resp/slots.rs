//! The order of a connection's answers: every request gets a slot, and answers leave in the order of their slots, in
//! whatever order and from whatever thread they come.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::RespOptions;
use super::answer::{Decoded, Shape};
use super::frame::{Frame, Protocol};
use crate::runtime::session::Output;
use crate::runtime::{Outcome, ReplySink};

/// Most requests of one connection that wait for their answers.
pub const MAX_WAITING: usize = 1024;
/// When so many bytes of requests wait, and of answers that some requests may have, no more are taken.
pub const MAX_WAITING_BYTES: usize = 32 << 20;
/// When so many bytes of answers wait for the client to read them, no more requests are taken.
pub const MAX_QUEUED_BYTES: usize = 1 << 20;
/// When so many bytes of answers wait for the client to read them, reads that were taken already are refused: their
/// answers turned out larger than any that came before. Well above what [`MAX_WAITING_BYTES`] and [`MAX_QUEUED_BYTES`]
/// let a connection have whose values do not suddenly grow.
pub const MAX_UNREAD_BYTES: usize = 48 << 20;
/// So many small answers as may wait at most are no burden.
const SMALL_BYTES: usize = MAX_QUEUED_BYTES / MAX_WAITING;
/// Room for ready answers that is kept from one batch to the next.
const KEPT_READY_BYTES: usize = 16 << 10;

/// The slots of one connection.
pub struct Slots {
    options: Arc<RespOptions>,
    queue: Mutex<Queue>,
}

struct Queue {
    /// Where answers go; none once the session has ended, and late answers are ignored.
    output: Option<Arc<dyn Output>>,
    /// The slots that were not sent yet, in order. The first is never answered: it would have been sent.
    slots: VecDeque<Slot>,
    /// Number of the first of them.
    first: u64,
    /// Answers that may leave with the next flush.
    ready: Vec<u8>,
    waiting: usize,
    /// Those of them that may change something, and so wait for disks and followers.
    waiting_writes: usize,
    waiting_bytes: usize,
    /// Bytes of answers that came before an earlier one's.
    held_bytes: usize,
    /// How large the next value is expected to be: as large as the largest of late, and at first as they can be.
    value_bytes: usize,
}

enum Slot {
    Waiting(Waiting),
    Answered(Vec<u8>),
}

/// How a request is to be answered.
struct Waiting {
    shape: Shape,
    /// In force when the request was sent.
    protocol: Protocol,
    /// Its part of [`MAX_WAITING_BYTES`].
    bytes: usize,
}

impl Slots {
    /// No slots yet.
    pub fn new(options: Arc<RespOptions>, output: Arc<dyn Output>) -> Arc<Self> {
        let value_bytes = usize::try_from(options.limits.max_request_bytes).unwrap_or(usize::MAX);
        let queue = Queue {
            output: Some(output),
            slots: VecDeque::new(),
            first: 0,
            ready: Vec::new(),
            waiting: 0,
            waiting_writes: 0,
            waiting_bytes: 0,
            held_bytes: 0,
            value_bytes,
        };
        Arc::new(Slots { options, queue: Mutex::new(queue) })
    }

    /// A slot for a request that is about to be handed in, and has so many bytes; and whether there is
    /// [room](Self::has_room) for another one after it.
    pub fn open(&self, shape: Shape, protocol: Protocol, request_bytes: usize) -> (u64, bool) {
        let mut queue = self.lock();
        let bytes = request_bytes + shape.answer_bytes(queue.value_bytes);
        queue.waiting += 1;
        queue.waiting_writes += usize::from(!shape.is_read());
        queue.waiting_bytes += bytes;
        queue.slots.push_back(Slot::Waiting(Waiting { shape, protocol, bytes }));
        (queue.first + queue.slots.len() as u64 - 1, queue.has_room())
    }

    /// Answers a request at once, in its turn. Whether there is [room](Self::has_room) for another one.
    pub fn answer(&self, frame: &Frame, protocol: Protocol) -> bool {
        let mut queue = self.lock();
        if queue.slots.is_empty() {
            frame.write(protocol, &mut queue.ready);
            queue.first += 1;
        } else {
            let mut bytes = Vec::new();
            frame.write(protocol, &mut bytes);
            queue.held_bytes += bytes.len();
            queue.slots.push_back(Slot::Answered(bytes));
        }
        queue.has_room()
    }

    /// Whether one more request may be taken.
    pub fn has_room(&self) -> bool {
        self.lock().has_room()
    }

    /// How many requests that may change something wait for their answers.
    pub fn waiting_writes(&self) -> usize {
        self.lock().waiting_writes
    }

    /// Whether every request was answered and every answer handed to the output.
    pub fn is_idle(&self) -> bool {
        let queue = self.lock();
        queue.slots.is_empty() && queue.ready.is_empty()
    }

    /// Lets go of the connection: answers that come later are ignored.
    pub fn close(&self) {
        let mut queue = self.lock();
        queue.output = None;
        queue.slots = VecDeque::new();
        queue.ready = Vec::new();
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A thread that panicked stops the node; until then what it left is no worse than a lost connection.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReplySink for Slots {
    fn reply(&self, slot: u64, outcome: Outcome) {
        let outcome = Decoded::from(outcome);
        let mut queue = self.lock();
        let Some((position, waiting)) = queue.take(slot) else { return };
        // The first one's place is behind those that are ready.
        let mut bytes = if position == 0 { std::mem::take(&mut queue.ready) } else { Vec::new() };
        let before = bytes.len();
        waiting.shape.frame(outcome, &self.options).write(waiting.protocol, &mut bytes);
        let size = bytes.len() - before;
        queue.expect_like(&waiting.shape, size);
        if size > SMALL_BYTES && waiting.shape.is_read() && queue.unread_bytes() + bytes.len() > MAX_UNREAD_BYTES {
            bytes.truncate(before);
            too_much_unread().write(waiting.protocol, &mut bytes);
        }
        if position == 0 {
            queue.ready = bytes;
            queue.slots.pop_front();
            queue.first += 1;
            queue.release_answered();
        } else {
            queue.held_bytes += bytes.len();
            queue.put(position, bytes);
        }
        let is_much = queue.ready.len() >= MAX_QUEUED_BYTES;
        drop(queue);
        if is_much {
            self.flush();
        }
    }

    fn flush(&self) {
        let output = {
            let mut queue = self.lock();
            let Some(output) = queue.output.clone() else { return };
            if queue.ready.is_empty() {
                return;
            }
            // Under the lock, so that two flushes keep their order; this copies at most.
            output.write_all_of(&mut queue.ready);
            queue.ready.shrink_to(KEPT_READY_BYTES);
            output
        };
        output.flush();
    }
}

fn too_much_unread() -> Frame {
    let limit_mib = MAX_UNREAD_BYTES >> 20;
    Frame::error(format!("OVERLOADED {limit_mib} MiB of answers wait for you: read them, or ask for less at a time"))
}

impl Queue {
    fn has_room(&self) -> bool {
        self.waiting < MAX_WAITING && self.waiting_bytes < MAX_WAITING_BYTES && self.unread_bytes() < MAX_QUEUED_BYTES
    }

    /// Bytes of answers that have not left.
    fn unread_bytes(&self) -> usize {
        let queued = self.output.as_ref().map_or(0, |output| output.queued());
        self.ready.len() + self.held_bytes + queued
    }

    /// Learns from an answer how large values are.
    fn expect_like(&mut self, shape: &Shape, bytes: usize) {
        if shape.answer_bytes(1) == 1 {
            self.value_bytes = bytes.max(self.value_bytes - self.value_bytes / 8);
        }
    }

    /// Takes what is needed to answer a slot; nothing if it was answered before, or the session has ended.
    fn take(&mut self, slot: u64) -> Option<(usize, Waiting)> {
        let position = usize::try_from(slot.checked_sub(self.first)?).ok()?;
        let place = self.slots.get_mut(position)?;
        match std::mem::replace(place, Slot::Answered(Vec::new())) {
            Slot::Waiting(waiting) => {
                self.waiting -= 1;
                self.waiting_writes -= usize::from(!waiting.shape.is_read());
                self.waiting_bytes -= waiting.bytes;
                Some((position, waiting))
            }
            answered => {
                *place = answered;
                None
            }
        }
    }

    fn put(&mut self, position: usize, bytes: Vec<u8>) {
        if let Some(place) = self.slots.get_mut(position) {
            *place = Slot::Answered(bytes);
        }
    }

    /// Moves the answers at the front to those that may leave.
    fn release_answered(&mut self) {
        while let Some(Slot::Answered(bytes)) = self.slots.front() {
            self.held_bytes -= bytes.len();
            self.ready.extend_from_slice(bytes);
            self.slots.pop_front();
            self.first += 1;
        }
    }
}
