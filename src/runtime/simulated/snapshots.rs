//! Snapshots on their way between simulated nodes, in the frames in which TCP would carry them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::oracle::{self, Check};
use super::simulation::{self, Simulation};
use crate::codec::frame;
use crate::codec::snapshot::{self, LIMIT_BYTES, Spoken};
use crate::consensus::{Index, NodeId, SnapshotMeta, Term};
use crate::runtime::Input;
use crate::transport::transfer::{Next, Outgoing, Pace, Sending, patience};

/// Chunks under way that are not acknowledged.
const WINDOW: u64 = 4;

/// Everything that is on its way.
#[derive(Default)]
pub struct Transfers {
    next: u64,
    sending: BTreeMap<u64, Transfer>,
    /// What each node takes in.
    receiving: BTreeMap<NodeId, u64>,
}

struct Transfer {
    from: (NodeId, u64),
    to: (NodeId, u64),
    term: Term,
    index: Index,
    outgoing: Outgoing,
    began: Duration,
    /// Without a word of the receiver until then it is given up.
    deadline: Duration,
}

/// Something happens to a transfer.
pub(super) enum Happening {
    /// A frame reaches the receiver.
    ToReceiver(u64, Bytes),
    /// The receiver's answer reaches the sender.
    ToSender(u64, Bytes),
    /// The sender goes on.
    GoOn(u64),
    /// The sender looks whether it has waited for too long.
    Look(u64),
    /// The connection is lost.
    Lost(u64),
}

impl Transfers {
    /// A node's process is gone.
    pub fn ended(&mut self, id: NodeId) {
        self.receiving.remove(&id);
        self.sending.retain(|_, transfer| transfer.from.0 != id);
    }
}

impl Simulation {
    pub(super) fn begin_transfer(
        &mut self,
        from: NodeId,
        to: NodeId,
        term: Term,
        snapshot: SnapshotMeta,
        abandoned: Arc<AtomicBool>,
    ) {
        let now = self.now;
        let earlier = self.transfers.sending.iter().find(|(_, other)| (other.from.0, other.to.0) == (from, to));
        if let Some(number) = earlier.map(|(number, _)| *number) {
            self.end_transfer(number, Err("it is no longer wanted".into()));
        }
        let (Some(own), Some(theirs)) = (self.epoch(from), self.epoch(to)) else {
            return self.sent(from, to, term, snapshot.index, Err("it is not connected".into()));
        };
        let Some(process) = self.hosts.get(&from).and_then(|host| host.process.as_ref()) else { return };
        let chunk_bytes = self.scenario.settings.chunk_bytes as usize;
        let patience = patience(self.scenario.election_timeout());
        let pace = Pace { chunk_bytes, window: WINDOW, rate_bytes: 16 << 20, patience };
        let (store, index) = (process.store.clone(), snapshot.index);
        let node = process.handle.clone();
        let sending = Sending { node, store, to, term, snapshot, pace, abandoned };
        let checked = sending.check();
        match checked.and_then(|()| Outgoing::begin(&sending)) {
            Err(reason) => self.sent(from, to, term, index, Err(reason)),
            Ok((outgoing, offer)) => {
                let number = self.transfers.next;
                self.transfers.next += 1;
                let (from, to) = ((from, own), (to, theirs));
                let transfer = Transfer { from, to, term, index, outgoing, began: now, deadline: Duration::MAX };
                self.transfers.sending.insert(number, transfer);
                self.report.transfers += 1;
                let mut bytes = Vec::new();
                if snapshot::encode_offer(&offer, &mut bytes).is_ok() {
                    self.send_on(number, bytes.into());
                }
                self.go_on(number);
            }
        }
    }

    fn epoch(&self, id: NodeId) -> Option<u64> {
        self.hosts.get(&id).filter(|host| host.process.is_some()).map(|host| host.epoch)
    }

    /// Tells a node what became of a snapshot that it wanted sent.
    fn sent(&mut self, from: NodeId, to: NodeId, term: Term, index: Index, outcome: Result<(), String>) {
        self.trace.line(self.now, || format!("node {from}: snapshot {index} to node {to}: {outcome:?}"));
        self.give(from, [Input::SnapshotSent { to, term, index, outcome }]);
    }

    fn end_transfer(&mut self, number: u64, outcome: Result<(), String>) {
        let Some(Transfer { from, to, term, index, .. }) = self.transfers.sending.remove(&number) else { return };
        if self.transfers.receiving.get(&to.0) == Some(&number) {
            self.transfers.receiving.remove(&to.0);
            if let Some(process) = self.host(to).and_then(|host| host.process.as_mut()) {
                process.receiving.end();
            }
        }
        if self.host(from).is_some() {
            self.sent(from.0, to.0, term, index, outcome);
        }
    }

    fn send_on(&mut self, number: u64, bytes: Bytes) {
        let Some(transfer) = self.transfers.sending.get(&number) else { return };
        let link = (transfer.from.0, transfer.to.0);
        self.report.mix_bytes(&bytes);
        for at in self.network.arrivals(link, self.now) {
            let happening = Happening::ToReceiver(number, bytes.clone());
            self.schedule.at(at, simulation::Happening::Transfer(happening));
        }
    }

    /// The sender does what it can do now.
    fn go_on(&mut self, number: u64) {
        let now = self.now;
        loop {
            let Some(transfer) = self.transfers.sending.get_mut(&number) else { return };
            let mut frame = Vec::new();
            match transfer.outgoing.next(now - transfer.began) {
                Ok(Next::Chunk(offset, bytes)) => {
                    if snapshot::encode_chunk(offset, bytes, &mut frame).is_ok() {
                        self.send_on(number, frame.into());
                    }
                }
                Ok(Next::Rest(wait)) => {
                    let happening = simulation::Happening::Transfer(Happening::GoOn(number));
                    return self.schedule.at(now + wait, happening);
                }
                Ok(Next::Await(patience)) => {
                    transfer.deadline = now + patience;
                    let happening = simulation::Happening::Transfer(Happening::Look(number));
                    return self.schedule.at(transfer.deadline, happening);
                }
                Ok(Next::Complete) => return self.end_transfer(number, Ok(())),
                Err(reason) => return self.end_transfer(number, Err(reason)),
            }
        }
    }

    pub(super) fn transfer(&mut self, happening: Happening) -> Check {
        let now = self.now;
        match happening {
            Happening::ToReceiver(number, bytes) => return self.transfer_arrives(number, bytes),
            Happening::ToSender(number, bytes) => return self.answer_arrives(number, bytes),
            Happening::GoOn(number) => self.go_on(number),
            Happening::Look(number) => {
                if self.transfers.sending.get(&number).is_some_and(|transfer| transfer.deadline <= now) {
                    self.end_transfer(number, Err("no progress".into()));
                }
            }
            Happening::Lost(number) => self.end_transfer(number, Err("the connection is lost".into())),
        }
        Ok(())
    }

    fn transfer_arrives(&mut self, number: u64, bytes: Bytes) -> Check {
        let now = self.now;
        let Some(transfer) = self.transfers.sending.get(&number) else { return Ok(()) };
        let (from, to) = (transfer.from.0, transfer.to);
        let current = self.transfers.receiving.get(&to.0) == Some(&number);
        if self.host(to).is_none() {
            let happening = simulation::Happening::Transfer(Happening::Lost(number));
            self.schedule.at(now + Duration::from_millis(1), happening);
            return Ok(());
        }
        let spoken = read(bytes)?;
        let Some(host) = self.host(to) else { return Ok(()) };
        let hangs_until = host.disk_hangs_until.max(host.paused_until);
        let Some(process) = &mut host.process else { return Ok(()) };
        let (answer, is_offer) = match spoken {
            Spoken::Offer(offer) => (process.receiving.offer(from, offer), true),
            Spoken::Chunk(offset, bytes) if current => (process.receiving.chunk(from, offset, &bytes), false),
            _ => return Ok(()),
        };
        if answer.is_err() {
            process.receiving.end();
        }
        let inputs = process.delivered();
        let applied = process.driver.server().applied();
        if is_offer {
            self.transfers.receiving.insert(to.0, number);
        }
        for input in &inputs {
            if let Input::SnapshotReceived { term, snapshot, .. } = input {
                self.report.received += 1;
                self.report.stale_snapshots += u64::from(snapshot.index <= applied);
                self.oracle.snapshot_arrived(to.0, *term, snapshot);
            }
        }
        self.give(to.0, inputs);
        self.check_snapshots_bound(to.0)?;
        let answer: Bytes = snapshot::encode_answer(&answer).into();
        self.report.mix_bytes(&answer);
        for at in self.network.arrivals((to.0, from), now) {
            let happening = Happening::ToSender(number, answer.clone());
            self.schedule.at(at.max(hangs_until), simulation::Happening::Transfer(happening));
        }
        self.after_disk_use(to.0)
    }

    fn answer_arrives(&mut self, number: u64, bytes: Bytes) -> Check {
        let now = self.now;
        let Some(transfer) = self.transfers.sending.get_mut(&number) else { return Ok(()) };
        transfer.deadline = Duration::MAX;
        match read(bytes)? {
            Spoken::Progress(progress) => match transfer.outgoing.acknowledged(progress, now - transfer.began) {
                Ok(()) => self.go_on(number),
                Err(reason) => self.end_transfer(number, Err(reason)),
            },
            Spoken::Refused(refused) => self.end_transfer(number, Err(refused.reason)),
            Spoken::Offer(_) | Spoken::Chunk(..) => {}
        }
        Ok(())
    }
}

fn read(bytes: Bytes) -> Result<Spoken, oracle::Violation> {
    match frame::decode(&mut BytesMut::from(bytes), LIMIT_BYTES).map(|frame| frame.map(snapshot::decode)) {
        Ok(Some(Ok(spoken))) => Ok(spoken),
        other => oracle::fail("the codec reads what it has written", format!("{other:?}")),
    }
}
