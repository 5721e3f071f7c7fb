//! Messages to peers, in order. Where a peer lags so far that its entries are no longer in memory, its lane waits for the
//! loader, and everything later waits behind: a heartbeat that overtook the entries before it would look like a loss.

use std::collections::VecDeque;

use super::Driver;
use crate::consensus::{AppendEntries, Entry, Event, Index, Message, MessageBody, NodeId, Term};
use crate::marks::{Mark, mark};
use crate::runtime::Loaded;
use crate::runtime::stage::loader::LoadRequest;
use crate::transport::PeerMessage;

/// Messages that may wait behind a load; the window of the protocol ends long before.
const MAX_WAITING: usize = 1024;

/// Messages to one peer that wait; the first waits for its entries.
#[derive(Default)]
pub(super) struct Lane(VecDeque<Outgoing>);

/// A message of the protocol on its way out.
pub(super) enum Outgoing {
    /// Complete.
    Message(Message),
    /// An `AppendEntries` that lacks its entries.
    Entries { append: AppendEntries, term: Term, first: Index, last: Index },
}

impl Driver {
    /// Sends to a peer, behind what waits for it already.
    pub(super) fn send(&mut self, to: NodeId, outgoing: Outgoing) {
        let lane = self.lanes.entry(to).or_default();
        if lane.0.is_empty() {
            self.send_or_load(to, outgoing);
        } else if lane.0.len() < MAX_WAITING {
            lane.0.push_back(outgoing);
        } else {
            self.give_up_lane(to);
        }
    }

    /// Leadership changed: what waited to be said is void.
    pub(super) fn clear_lanes(&mut self) {
        self.lanes.clear();
    }

    /// The loader has read what the first message of a lane lacks.
    pub(super) fn loaded(&mut self, loaded: Loaded) {
        let Loaded { peer, term: asked_in, first: from, entries } = loaded;
        let Some(lane) = self.lanes.get_mut(&peer) else { return mark(Mark::LoadVoid) };
        let is_wanted = |outgoing: &mut Outgoing| matches!(outgoing, Outgoing::Entries { term, first, .. } if *term == asked_in && *first == from);
        let Some(Outgoing::Entries { append, term, first, last }) = lane.0.pop_front_if(is_wanted) else {
            return mark(Mark::LoadVoid);
        };
        let rest = entries.last().map_or(first, |entry| entry.header.index.next());
        let entries: Vec<&Entry> = entries.iter().chain(self.tail.range(rest, last)).collect();
        let is_complete = entries.iter().map(|entry| entry.header.index.0).eq(first.0..=last.0);
        if !is_complete {
            mark(Mark::LoadIncomplete);
            return self.give_up_lane(peer);
        }
        let message = with_entries(append, term, entries.into_iter());
        self.transmit(peer, message);
        while let Some(next) = self.lanes.get_mut(&peer).and_then(|lane| lane.0.pop_front()) {
            if self.send_or_load(peer, next) {
                break;
            }
        }
    }

    /// Sends if all is at hand; otherwise asks the loader, puts the message first in its lane, and returns true.
    fn send_or_load(&mut self, to: NodeId, outgoing: Outgoing) -> bool {
        match outgoing {
            Outgoing::Message(message) => self.transmit(to, PeerMessage::Raft { message, payloads: Vec::new() }),
            Outgoing::Entries { append, term, first, last } if first >= self.tail.first() => {
                let message = with_entries(append, term, self.tail.range(first, last));
                self.transmit(to, message);
            }
            Outgoing::Entries { append, term, first, last } => {
                mark(Mark::LaneLoaded);
                let load = LoadRequest { peer: to, term, first, last: last.min(self.tail.first().prev()) };
                // A loader that is gone has said why.
                self.stages.loader.send(load);
                let waiting = Outgoing::Entries { append, term, first, last };
                self.lanes.entry(to).or_default().0.push_front(waiting);
                return true;
            }
        }
        false
    }

    fn transmit(&mut self, to: NodeId, message: PeerMessage) {
        if self.transport.send(to, message).is_err() {
            self.unreachable(to);
        }
    }

    fn give_up_lane(&mut self, peer: NodeId) {
        self.lanes.remove(&peer);
        self.unreachable(peer);
    }

    /// Tells the server, once a turn, that messages to this peer were lost.
    pub(super) fn unreachable(&mut self, peer: NodeId) {
        if self.lost.insert(peer) {
            self.events.push_back(Event::Unreachable { peer });
        }
    }
}

fn with_entries<'a>(append: AppendEntries, term: Term, entries: impl Iterator<Item = &'a Entry>) -> PeerMessage {
    let (headers, payloads) = entries.map(|entry| (entry.header.clone(), entry.payload.clone())).unzip();
    let body = MessageBody::AppendEntries(AppendEntries { entries: headers, ..append });
    PeerMessage::Raft { message: Message { term, body }, payloads }
}
