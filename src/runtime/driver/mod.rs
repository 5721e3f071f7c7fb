//! Carries out what the protocol wants done, the same way under every runtime.
//!
//! A [`Driver`] owns the [`Server`] and everything between it and the stages. It has no thread, no clock and never waits:
//! a runtime hands it what came in, in [turns](Driver::turn). A turn feeds every input to the server, carries its effects
//! out in the order given, puts all of the turn's writes into one proposal and all of its reads into one round, and
//! ends with at most one job for the storage stage, one for the apply stage and one flush of the transport. What is rare does
//! not wait for the end: loads, snapshots, and a state to be replaced.

mod connections;
mod effects;
mod forced;
mod forwarding;
mod lanes;
mod proposing;
mod report;
mod requests;
mod snapshots;
mod stop;
mod tail;
#[cfg(test)]
mod tests;
mod waiters;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::consensus::{Effect, Event, ForcedStart, Index, Message, MessageBody, NodeId, Payload, Role, Server};
use crate::marks::{Mark, mark};
use crate::mutants::{Mutant, mutant};
use crate::runtime::metrics::Metrics;
use crate::runtime::stage::apply::ApplyJob;
use crate::runtime::stage::loader::LoadRequest;
use crate::runtime::stage::snapshot::SnapshotJob;
use crate::runtime::stage::storage::StorageJob;
use crate::runtime::stage::{Asker, JobSender, Load, SharedApply, Sinks};
use crate::runtime::{ClientRequest, Input, Response};
use crate::storage::snapshot::SnapshotStore;
use crate::transport::{PeerMessage, Transport};

use effects::Payloads;
use forced::Beginning;
use lanes::Lane;
use report::RateLimit;
use requests::Requests;
use snapshots::Snapshots;
use stop::Stop;
use tail::Tail;

/// Shortest limit on the time between a request and its answer.
const MIN_REQUEST_LIMIT: Duration = Duration::from_secs(5);
/// Most requests of own clients that wait for an answer at a time.
const MAX_REQUESTS: u64 = 64 << 10;

/// What a driver is told once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverConfig {
    /// The names of nodes, for people.
    pub labels: BTreeMap<NodeId, String>,
    /// Each election timeout is drawn from [T, 2T).
    pub election_timeout: Duration,
    /// Time between a leader's heartbeats.
    pub heartbeat_interval: Duration,
    /// How a scenario makes the server begin.
    pub start: Option<ForcedStart>,
    /// Most bytes of recent entries in memory, and most bytes of own clients' requests that wait for an answer.
    pub max_inflight_bytes: u64,
    /// A snapshot is due after so many bytes of log, or so many as the last one has, if those are more.
    pub snapshot_bytes: u64,
    /// It is also due after so many entries.
    pub snapshot_entries: u64,
    /// And so long after the first entry that the last one does not cover; `None`: never for its age.
    pub snapshot_age: Option<Duration>,
}

/// Where the stages take their jobs from.
pub struct Stages {
    /// To the storage stage.
    pub storage: JobSender<StorageJob>,
    /// To the apply stage.
    pub apply: JobSender<ApplyJob>,
    /// To the log loader.
    pub loader: JobSender<LoadRequest>,
    /// To the snapshot stage.
    pub snapshot: JobSender<SnapshotJob>,
}

/// Why a node has ended: `Ok` when it was asked to.
pub type Ended = Result<(), String>;

/// One node's protocol and everything that carries it out.
pub struct Driver {
    config: DriverConfig,
    server: Server,
    transport: Box<dyn Transport>,
    stages: Stages,
    /// The apply stage itself, where this driver's thread may do a little of its work.
    shared_apply: Weak<SharedApply>,
    now: Duration,
    effects: Vec<Effect>,
    /// What carrying out effects has caused, to be fed next.
    events: VecDeque<Event>,
    tail: Tail,
    lanes: BTreeMap<NodeId, Lane>,
    /// Peers to whom there is a connection.
    linked: BTreeSet<NodeId>,
    /// Peers that the server was told of as unreachable in this turn.
    lost: BTreeSet<NodeId>,
    requests: Requests,
    snapshots: Snapshots,
    /// Of the last persist.
    last_token: u64,
    /// Whoever asked for the transfer of leadership that is under way.
    transfer: Option<Vec<Asker>>,
    /// This turn's jobs for the stages.
    storage_job: Option<StorageJob>,
    apply_job: ApplyJob,
    commit: Index,
    sinks: Sinks,
    refusals: RateLimit,
    /// When to look at limits of time again, while anything waits.
    next_sweep: Option<Duration>,
    stop: Option<Stop>,
    /// Until a forced start begins, no clock fires.
    beginning: Option<Beginning>,
    ended: Option<Ended>,
    /// The role that the log told of last.
    told: Role,
    /// Likewise, the election timeout.
    told_timeout: Duration,
    metrics: Arc<Metrics>,
}

impl Driver {
    /// A driver of a server that was just started, whose snapshots are in this store. `now` is the time on the clock that later turns will use, too.
    pub fn new(
        mut config: DriverConfig,
        server: Server,
        transport: Box<dyn Transport>,
        stages: Stages,
        snapshots: Arc<dyn SnapshotStore>,
        now: Duration,
    ) -> Self {
        let beginning = config.start.take().map(|start| Beginning::new(start, &server, now));
        let request_limit = MIN_REQUEST_LIMIT.max(20 * config.election_timeout);
        let told_timeout = server.election_timeout();
        let load = Load::new(MAX_REQUESTS, config.max_inflight_bytes);
        Driver {
            tail: Tail::new(server.last_index(), server.applied(), config.max_inflight_bytes),
            requests: Requests::new(load, request_limit),
            snapshots: Snapshots::new(snapshots, server.applied(), &config),
            last_token: 0,
            commit: server.commit(),
            config,
            server,
            transport,
            stages,
            shared_apply: Weak::new(),
            now,
            effects: Vec::new(),
            events: VecDeque::new(),
            lanes: BTreeMap::new(),
            linked: BTreeSet::new(),
            lost: BTreeSet::new(),
            transfer: None,
            storage_job: None,
            apply_job: ApplyJob::default(),
            sinks: Sinks::default(),
            refusals: RateLimit::default(),
            next_sweep: None,
            stop: None,
            beginning,
            ended: None,
            told: Role::Follower,
            told_timeout,
            metrics: Arc::default(),
        }
    }

    /// From now on it has this stage, as long as there is one, do at once what is brief, without waking its thread.
    pub fn apply_at_once(&mut self, stage: Weak<SharedApply>) {
        self.shared_apply = stage;
    }

    /// From now on its numbers are counted here.
    pub fn count_in(&mut self, metrics: Arc<Metrics>) {
        self.metrics = metrics;
    }

    /// One turn: everything that came in, in order, the node's own inputs before its clients' requests.
    pub fn turn(
        &mut self,
        now: Duration,
        inputs: impl IntoIterator<Item = Input>,
        requests: impl IntoIterator<Item = ClientRequest>,
    ) {
        self.now = now;
        self.lost.clear();
        for input in inputs {
            self.input(input);
        }
        self.begin_if_due();
        for request in requests {
            self.request(request);
        }
        if self.next_sweep.is_some_and(|at| at <= now) {
            self.sweep();
        }
        self.make_snapshot_if_due();
        self.release_held();
        self.submit();
        self.flush();
        self.look_ahead();
        self.tell_timeout();
    }

    /// The protocol's server, to be looked at.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Bytes of entries that are kept in memory.
    pub fn entries_bytes(&self) -> u64 {
        self.tail.bytes()
    }

    /// When the election clock must fire. A node that stops does not campaign.
    pub fn election_deadline(&self) -> Option<Duration> {
        self.server.election_deadline().filter(|_| self.beginning.is_none() && self.stop.is_none())
    }

    /// When the heartbeat clock must fire.
    pub fn heartbeat_deadline(&self) -> Option<Duration> {
        self.server.heartbeat_deadline()
    }

    /// When the next turn is due even if nothing comes in.
    pub fn next_turn(&self) -> Option<Duration> {
        [self.next_sweep, self.snapshots.next_due(), self.begins_at()].into_iter().flatten().min()
    }

    /// How many requests of this node's clients wait for the log, a confirmation or another node; or how many entries it does
    /// not know to be committed, if those are more.
    pub fn under_way(&self) -> u64 {
        let uncommitted = self.server.last_index().0.saturating_sub(self.server.commit().0);
        uncommitted.max(self.requests.under_way() as u64)
    }

    /// Whether the node has ended, and why. No further turn has any effect.
    pub fn ended(&self) -> Option<&Ended> {
        self.ended.as_ref()
    }

    fn input(&mut self, input: Input) {
        if self.ended.is_some() {
            return;
        }
        match input {
            // The election clock had fired already.
            Input::Tick if self.stop.is_some() && self.server.role() != Role::Leader => {}
            Input::Tick => {
                self.feed(Event::Tick, Payloads::None);
                self.follow_up_snapshots();
            }
            Input::Peer { from, life, message } => match message {
                PeerMessage::Raft { message, payloads } => self.receive(from, message, payloads),
                PeerMessage::Forward(forward) => self.forward_received(from, life, forward),
                PeerMessage::ForwardReply { life, sequence, outcome } => {
                    self.forward_answered(from, life, sequence, outcome);
                }
            },
            Input::Link { peer, up } => self.link_changed(peer, up),
            Input::Persisted { token } => {
                self.tail.persisted(token);
                self.remove_older_snapshots(token);
                self.feed(Event::Persisted { token }, Payloads::None);
            }
            Input::Applied { index } => {
                self.tail.applied(index);
                self.feed(Event::Applied { index }, Payloads::None);
                self.count_applied(index);
            }
            Input::MachineDeadline { time } => self.feed(Event::MachineDeadline { time }, Payloads::None),
            Input::Loaded(loaded) => {
                self.loaded(loaded);
                self.feed_caused();
            }
            Input::Replies(replies) => replies.into_iter().for_each(|reply| self.reply_to_peer(reply)),
            Input::Forgot { reason } => self.forget(&reason),
            Input::DiskFull => self.disk_full(),
            Input::DiskFreed => self.feed(Event::DiskFreed, Payloads::None),
            Input::SnapshotView(view) => self.snapshot_view(view),
            Input::SnapshotTaken { info } => self.snapshot_taken(info),
            Input::SnapshotPutOff { reason } => self.snapshot_put_off(&reason),
            Input::SnapshotSent { to, term, index, outcome } => self.snapshot_sent(to, term, index, outcome),
            Input::SnapshotReceived { from, term, snapshot } => self.snapshot_received(from, term, snapshot),
            Input::Status { reply } => {
                let status = Box::new(self.status());
                self.sinks.add(reply.send(Ok(Response::Status(status))));
            }
            Input::Failed { reason } => self.fail(reason),
            Input::Stop => self.stop(),
        }
    }

    /// A message of the protocol. Its payloads have to fit before the server sees it.
    fn receive(&mut self, from: NodeId, message: Message, payloads: Vec<Payload>) {
        let payloads = match &message.body {
            MessageBody::AppendEntries(append) => {
                let announced = append.entries.iter().map(|entry| entry.size as usize);
                if !announced.eq(payloads.iter().map(|payload| payload.len())) {
                    return self.refused(from, "sent entries whose payloads are missing or of another size");
                }
                Payloads::Received { after: append.prev_index, payloads }
            }
            MessageBody::InstallSnapshot { .. } => {
                return self.refused(from, "announced a snapshot that it has not sent");
            }
            // It is as if that had come too late: the leader finds another when the connection is gone.
            MessageBody::TimeoutNow if self.stop.is_some() => return,
            _ => Payloads::None,
        };
        self.feed(Event::Receive { from, message }, payloads);
    }

    fn link_changed(&mut self, peer: NodeId, up: bool) {
        let _ = if up { self.linked.insert(peer) } else { self.linked.remove(&peer) };
        self.beginning_linked();
        if !up {
            self.unreachable(peer);
            self.feed_caused();
            self.give_up_forwarded_to(peer);
        }
        self.requests.release = true;
    }

    /// Feeds an event to the server, carries out its effects, and whatever they cause.
    fn feed(&mut self, event: Event, payloads: Payloads) {
        self.server.handle(self.now, event, &mut self.effects);
        self.carry_out(payloads);
        self.feed_caused();
    }

    /// Has the server begin a forced start.
    fn begin(&mut self, start: &ForcedStart) {
        self.server.begin(self.now, start, &mut self.effects);
        self.carry_out(Payloads::None);
        self.feed_caused();
    }

    fn feed_caused(&mut self) {
        while let Some(event) = self.events.pop_front() {
            self.server.handle(self.now, event, &mut self.effects);
            self.carry_out(Payloads::None);
        }
    }

    /// Ends the turn: the disk starts, messages leave, then the state machine starts, and answers leave. So what others need
    /// longest for begins first.
    fn flush(&mut self) {
        if self.ended.is_some() {
            return;
        }
        if mutant(Mutant::M13) {
            self.commit = self.commit.max(self.server.last_index());
        }
        if self.commit > self.tail.handed() {
            self.apply_job.commit = Some(self.settle_commit());
        }
        self.hand_over_reads();
        // A stage that is gone has said why, or will.
        if let Some(job) = self.storage_job.take() {
            self.stages.storage.send(job);
        }
        self.transport.flush();
        if !self.apply_job.is_empty() {
            let job = std::mem::take(&mut self.apply_job);
            let left = match self.shared_apply.upgrade() {
                Some(stage) => stage.try_now(job),
                None => Some(job),
            };
            left.into_iter().for_each(|job| self.stages.apply.send(job));
        }
        self.sinks.flush();
    }

    /// Decides when to look at limits of time again, and whether a node that stops is done.
    fn look_ahead(&mut self) {
        if self.ended.is_some() {
            return;
        }
        self.end_if_stopped();
        let waits = self.stop.is_some() || !self.requests.is_idle();
        let soon = self.next_sweep.filter(|at| *at > self.now).unwrap_or(self.now + self.config.election_timeout / 4);
        let next = if self.requests.release { self.now } else { soon };
        // If nothing waits now, something may by then, and a limit that stays need not be told anybody anew.
        self.next_sweep = if waits { Some(next) } else { self.next_sweep.filter(|at| *at > self.now) };
    }

    /// Abstains from now on. The transport may say so only then: nothing that vouches for something must leave after that.
    fn forget(&mut self, reason: &str) {
        if !self.server.abstains() {
            log::warn!("{reason}. {} neither votes nor counts until it has caught up with all others", self.me());
        }
        self.beginning = None;
        self.feed(Event::Forgot, Payloads::None);
        self.transport.abstain();
    }

    /// Nothing more becomes durable here: leadership goes to whoever has space.
    fn disk_full(&mut self) {
        if self.could_hand_over() {
            mark(Mark::DiskFullHandsOver);
            log::info!("{} hands leadership over, for its disk is full", self.me());
            self.begin_transfer(Event::DiskFull, Vec::new());
        } else {
            self.feed(Event::DiskFull, Payloads::None);
        }
    }

    fn could_hand_over(&self) -> bool {
        let has_successor = self.server.membership().voters.iter().any(|voter| *voter != self.server.id());
        self.server.role() == Role::Leader && has_successor && self.transfer.is_none()
    }

    /// Begins to hand leadership over, which this event asks the server for. Requests wait meanwhile.
    fn begin_transfer(&mut self, event: Event, askers: Vec<Asker>) {
        self.transfer = Some(askers);
        self.recall_batch();
        self.feed(event, Payloads::None);
    }

    /// Ends this node at once.
    fn fail(&mut self, reason: String) {
        if self.ended.is_none() {
            log::error!("{} stops: {reason}", self.me());
            self.ended = Some(Err(reason));
        }
    }

    /// Ends everything: whoever still waits is told, and nobody is left without an answer.
    pub fn shut_down(mut self, queued: impl IntoIterator<Item = ClientRequest>) -> Ended {
        let ended = self.ended.get_or_insert(Ok(())).clone();
        for request in queued {
            self.request(request);
        }
        self.answer_everyone();
        self.transport.flush();
        self.sinks.flush();
        // The stages end meanwhile, for the transport may take a moment to hang up.
        drop(self.stages);
        drop(self.transport);
        ended
    }
}
