//! How nodes reach each other: connections with their handshakes, and frames that are late, lost, doubled, overtaken or held up.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::dice::Dice;
use super::host::Process;
use super::oracle::{Check, hold};
use super::scenario;
use super::simulation::{Happening, Simulation};
use super::transport::{MAX_FRAME_BYTES, Outgoing};
use crate::codec::handshake::{self, Handshake, Hello, PROTOCOL, Purpose, RefusalCode, Refused, Welcome};
use crate::codec::{frame, peer};
use crate::consensus::NodeId;
use crate::runtime::Input;
use crate::storage::{Lineage, Start};
use crate::transport::PeerMessage;

/// From one node to another.
pub(super) type Link = (NodeId, NodeId);

/// How long a node takes to dial again.
const REDIAL: Duration = Duration::from_millis(20);

/// More frames are never under way, unless they call for ever more of each other.
const UNDER_WAY_MAX: usize = 20_000;

/// The links between nodes.
pub struct Network {
    dice: Dice,
    ways: scenario::Network,
    /// Until when nothing gets through.
    cut: BTreeMap<Link, Duration>,
    /// Until when everything is held up.
    clogged: BTreeMap<Link, Duration>,
    /// Every message arrives so many times more, until then.
    storm: (u64, Duration),
    /// When the last frame that was not overtaken arrives.
    last: BTreeMap<Link, Duration>,
    /// Frames that have left and not arrived.
    under_way: usize,
    /// Connections that were welcomed: the epochs of both processes.
    up: BTreeMap<Link, (u64, u64)>,
    /// The latest process of a peer that a node has admitted.
    admitted: BTreeMap<Link, u64>,
}

impl Network {
    pub fn new(seed: u64, ways: &scenario::Network) -> Self {
        Network {
            dice: Dice::new(seed, "network"),
            ways: ways.clone(),
            cut: BTreeMap::new(),
            clogged: BTreeMap::new(),
            storm: (0, Duration::ZERO),
            last: BTreeMap::new(),
            under_way: 0,
            up: BTreeMap::new(),
            admitted: BTreeMap::new(),
        }
    }

    /// Nothing gets through these links until then.
    pub fn cut(&mut self, links: &[(u64, u64)], until: Duration) {
        for &(from, to) in links {
            let cut = self.cut.entry((NodeId(from), NodeId(to))).or_default();
            *cut = until.max(*cut);
        }
    }

    /// Every message arrives so many times more until then.
    pub fn storm(&mut self, copies: u64, until: Duration) {
        self.storm = (copies, until);
    }

    /// Everything on these links is held up until then.
    pub fn clog(&mut self, links: &[(u64, u64)], until: Duration) {
        for &(from, to) in links {
            let clogged = self.clogged.entry((NodeId(from), NodeId(to))).or_default();
            *clogged = until.max(*clogged);
        }
    }

    /// Every link works, and loses nothing, but for those of nodes that are not among these. Returns when the last of what is
    /// held up between these arrives, which all that is sent later must wait for.
    pub fn heal(&mut self, among: &[NodeId], all: u64) -> Duration {
        (self.ways.lost, self.ways.twice, self.ways.overtaken) = (0, 0, 0);
        self.storm = (0, Duration::ZERO);
        self.cut.clear();
        self.clogged.clear();
        let outside = |id: &NodeId| !among.contains(id);
        for from in (1..=all).map(NodeId) {
            for to in (1..=all).map(NodeId).filter(|to| outside(&from) || outside(to)) {
                self.cut.insert((from, to), Duration::MAX);
            }
        }
        let between = |(from, to): &Link| among.contains(from) && among.contains(to);
        self.last.iter().filter(|(link, _)| between(link)).map(|(_, at)| *at).max().unwrap_or_default()
    }

    pub(super) fn is_cut(&self, link: Link, now: Duration) -> bool {
        self.cut.get(&link).is_some_and(|until| *until > now)
    }

    /// When something that is sent now arrives: never, once, or twice.
    pub(super) fn arrivals(&mut self, link: Link, now: Duration) -> Vec<Duration> {
        if self.is_cut(link, now) || self.dice.in_a_million(self.ways.lost) {
            return Vec::new();
        }
        let way = self.way();
        let mut at = (now + way).max(self.clogged.get(&link).copied().unwrap_or_default());
        if self.dice.in_a_million(self.ways.overtaken) {
            at += self.way() * 4;
        } else {
            let last = self.last.entry(link).or_default();
            at = at.max(*last + Duration::from_nanos(1));
            *last = at;
        }
        let (copies, until) = self.storm;
        let copies = if until > now { copies } else { u64::from(self.dice.in_a_million(self.ways.twice)) };
        let later = (0..copies).map(|_| at + self.way() * 3);
        std::iter::once(at).chain(later).collect()
    }

    pub(super) fn way(&mut self) -> Duration {
        let jitter = self.dice.around(Duration::from_micros(self.ways.jitter_us));
        Duration::from_micros(self.ways.delay_us) + jitter
    }
}

impl Simulation {
    /// Something leaves a node.
    pub(super) fn leave(&mut self, from: NodeId, outgoing: Outgoing) -> Check {
        let now = self.now;
        match outgoing {
            Outgoing::Snapshot { to, term, snapshot, abandoned } => {
                self.begin_transfer(from, to, term, snapshot, abandoned);
                Ok(())
            }
            Outgoing::Frame { to, message, bytes } => {
                if let PeerMessage::Raft { message, .. } = &message
                    && let Some(process) = self.hosts.get(&from).and_then(|host| host.process.as_ref())
                {
                    self.oracle.sent(from, to, process.driver.server(), message)?;
                }
                let epochs = self.network.up.get(&(from, to)).copied();
                let Some((own, theirs)) = epochs else { return Ok(()) };
                self.report.messages += 1;
                self.report.bytes += bytes.len() as u64;
                let arrivals = self.network.arrivals((from, to), now);
                match arrivals.len() {
                    0 => self.report.lost += 1,
                    1 => {}
                    _ => self.report.doubled += 1,
                }
                self.network.under_way += arrivals.len();
                let under_way = self.network.under_way;
                hold!("I21 bounds", under_way <= UNDER_WAY_MAX, "{under_way} messages are under way");
                let copies = std::iter::repeat_n(bytes, arrivals.len());
                for (at, bytes) in arrivals.into_iter().zip(copies) {
                    self.schedule.at(at, Happening::Frame { from: (from, own), to: (to, theirs), bytes });
                }
                Ok(())
            }
        }
    }

    pub(super) fn frame_arrives(&mut self, from: (NodeId, u64), to: (NodeId, u64), bytes: Bytes) -> Check {
        self.network.under_way -= 1;
        let link = (from.0, to.0);
        // One that belongs to an earlier life of the sender is never taken after a later one was admitted.
        if self.network.admitted.get(&link) != Some(&from.1) || self.network.is_cut(link, self.now) {
            return Ok(());
        }
        self.report.mix(from.0.0 << 32 ^ to.0.0);
        self.report.mix_bytes(&bytes);
        let Some(host) = self.host(to) else { return Ok(()) };
        let Some(process) = &mut host.process else { return Ok(()) };
        let life = process.lives.life_of(from.0).unwrap_or_default();
        let decoded = frame::decode(&mut BytesMut::from(bytes), MAX_FRAME_BYTES);
        let message = match decoded.map(|frame| frame.map(peer::decode)) {
            Ok(Some(Ok(message))) => message,
            // What the codec has written, it must be able to read.
            other => super::oracle::fail("the codec reads what it has written", format!("{other:?}"))?,
        };
        if let PeerMessage::Raft { message, .. } = &message {
            self.oracle.arrived(to.0, from.0, message);
        }
        self.trace.message(self.now, from.0, to.0, &message);
        self.give(to.0, [Input::Peer { from: from.0, life, message }]);
        Ok(())
    }

    /// One attempt of a node to connect to another, with the handshake that follows.
    pub(super) fn dial(&mut self, from: (NodeId, u64), to: NodeId) -> Check {
        let (now, me) = (self.now, from.0);
        let is_cut = self.network.is_cut((me, to), now) || self.network.is_cut((to, me), now);
        if self.host(from).is_none() {
            return Ok(());
        }
        let there = self.hosts.get(&to).filter(|host| host.process.is_some() && host.paused_until <= now);
        let epoch = there.map(|host| host.epoch).filter(|_| !is_cut);
        let Some(epoch) = epoch else {
            self.schedule.at(now + REDIAL, Happening::Dial { from, to });
            return Ok(());
        };
        let hello = self.introduce(me, to).encode();
        let answer = self.welcome(to, &hello);
        match self.read_answer(me, &answer) {
            Ok(()) => {
                self.network.up.insert((me, to), (from.1, epoch));
                self.network.admitted.insert((me, to), from.1);
                self.network.admitted.insert((to, me), epoch);
                if let Some(process) = self.host(from).and_then(|host| host.process.as_mut()) {
                    process.outbox.connect(to, true);
                }
                self.give(me, [Input::Link { peer: to, up: true }]);
            }
            Err(reason) => {
                self.trace.line(now, || format!("node {me} is refused by node {to}: {reason}"));
                if let Some(reason) = self.refusal_is_final(me, to, &answer) {
                    self.give(me, [Input::Failed { reason }]);
                }
                self.schedule.at(now + REDIAL, Happening::Dial { from, to });
            }
        }
        self.after_disk_use(me)?;
        self.after_disk_use(to)
    }

    /// Remembering a peer's life uses the disk, which may fail.
    pub(super) fn after_disk_use(&mut self, id: NodeId) -> Check {
        let Some(host) = self.hosts.get(&id) else { return Ok(()) };
        self.report.mix(host.disk.hash());
        self.trace.logged(self.now, id);
        match host.disk.trouble() {
            Some(super::disk::Trouble::PowerCut) => self.power_off(id, self.faults.down_for(id)),
            Some(super::disk::Trouble::Error | super::disk::Trouble::OneError) => {
                self.give(id, [Input::Failed { reason: "cannot remember the life of a peer".into() }]);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn process(&mut self, id: NodeId) -> Option<&mut Process> {
        self.hosts.get_mut(&id)?.process.as_mut()
    }

    fn introduce(&mut self, me: NodeId, to: NodeId) -> Handshake {
        let (Lineage { start: Start { life, nonce }, earlier }, abstains) =
            self.process(me).map(|process| (process.lineage.clone(), process.abstains)).unwrap_or_default();
        let (protocol, purpose) = (PROTOCOL, Purpose::Messages { dial: 1 });
        Handshake::Hello(Hello { protocol, cluster_id: 0, from: me, to, life, nonce, earlier, abstains, purpose })
    }

    /// The accepting side's answer, as bytes.
    fn welcome(&mut self, me: NodeId, hello: &[u8]) -> Vec<u8> {
        let Some(Handshake::Hello(hello)) = read_handshake(hello) else { return Vec::new() };
        let Some(process) = self.process(me) else { return Vec::new() };
        let answer = match process.lives.admit(hello.from, &hello.lineage(), hello.abstains) {
            Ok(()) => {
                let (protocol, abstains) = (PROTOCOL, process.abstains);
                let Lineage { start: Start { life, nonce }, earlier } = process.lineage.clone();
                Handshake::Welcome(Welcome { protocol, cluster_id: 0, from: me, life, nonce, earlier, abstains })
            }
            Err(error) => {
                let (code, reason) = (error.code(), error.to_string());
                Handshake::Refused(Refused { cluster_id: 0, from: me, code, reason })
            }
        };
        answer.encode()
    }

    fn read_answer(&mut self, me: NodeId, answer: &[u8]) -> Result<(), String> {
        match read_handshake(answer) {
            Some(Handshake::Welcome(welcome)) => {
                let process = self.process(me).ok_or("it is gone")?;
                process
                    .lives
                    .admit(welcome.from, &welcome.lineage(), welcome.abstains)
                    .map_err(|error| error.to_string())
            }
            Some(Handshake::Refused(refused)) => Err(refused.reason),
            _ => Err("no answer".into()),
        }
    }

    /// A node whose life is refused has forgotten what it promised, and stops.
    fn refusal_is_final(&mut self, me: NodeId, by: NodeId, answer: &[u8]) -> Option<String> {
        let Some(Handshake::Refused(Refused { code, reason, .. })) = read_handshake(answer) else { return None };
        if code == RefusalCode::Other {
            return None;
        }
        let process = self.process(me)?;
        if code == RefusalCode::OlderBoot {
            let own = process.lineage.start;
            // If the disk fails as well, the node stops all the same.
            let _ = process.lives.disown(me, own);
        }
        Some(format!("node {by} refuses node {me}: {reason}"))
    }

    /// A node's process is gone: the others notice, sooner or later.
    pub(super) fn connections_lost(&mut self, id: NodeId) {
        let now = self.now;
        let lost: Vec<(Link, (u64, u64))> =
            self.network.up.iter().filter(|((from, to), _)| *from == id || *to == id).map(|(k, v)| (*k, *v)).collect();
        for (link, (own, _)) in lost {
            self.network.up.remove(&link);
            if link.0 != id {
                let soon = self.network.way();
                self.schedule.at(now + soon, Happening::HangUp { from: (link.0, own), to: id });
            }
        }
    }

    pub(super) fn hang_up(&mut self, from: (NodeId, u64), to: NodeId) -> Check {
        let now = self.now;
        let Some(process) = self.host(from).and_then(|host| host.process.as_mut()) else { return Ok(()) };
        process.outbox.connect(to, false);
        self.give(from.0, [Input::Link { peer: to, up: false }]);
        self.schedule.at(now + REDIAL, Happening::Dial { from, to });
        Ok(())
    }
}

fn read_handshake(bytes: &[u8]) -> Option<Handshake> {
    let frame = frame::decode(&mut BytesMut::from(bytes), handshake::LIMIT_BYTES).ok()??;
    Handshake::decode(&frame).ok()
}
