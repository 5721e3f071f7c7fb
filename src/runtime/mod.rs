//! Time, threads and effects: what turns the pure protocol into a running node.

#[cfg(feature = "async")]
pub mod asynchronous;
pub mod bell;
pub mod daemon;
pub mod driver;
mod guard;
mod handler;
mod log_limit;
pub mod metrics;
pub mod node;
pub mod parts;
pub mod session;
pub mod simulated;
pub mod sockets;
pub mod stage;
pub mod threaded;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use bytes::Bytes;
use crossbeam_channel::{Receiver, SendError, Sender};
use serde::{Deserialize, Serialize};

pub(crate) use self::bell::Bell;
pub(crate) use self::guard::spawn_guarded;
pub(crate) use self::log_limit::{LogLimit, LogRepeats};
use self::metrics::Metrics;
use self::sockets::Sockets;
use self::threaded::handler::SharedHandler;
use crate::consensus::{Entry, Index, LogTime, NodeId, Payload, Role, SessionSequence, SnapshotMeta, Term};
use crate::machine::MachineSnapshot;
pub use crate::storage::Life;
use crate::storage::snapshot::SnapshotInfo;
use crate::transport::{Failure, PeerMessage};

/// Why a node cannot be started on the other runtime, for people.
#[cfg(not(feature = "async"))]
const NO_ASYNC_RUNTIME: &str = "AsyncRuntime is not in this build: it takes the feature `async`";

/// Something for the event handler. The handler has two inboxes: clients' requests come through one that is bounded,
/// everything else through the other, which is drained first.
pub enum Input {
    /// A clock fired: look at the deadlines.
    Tick,
    /// A peer's message arrived over a connection that its handshake identified.
    Peer {
        /// The sender.
        from: NodeId,
        /// The sender's incarnation and boot number, from the handshake.
        life: Life,
        /// The message.
        message: PeerMessage,
    },
    /// The connection to a peer was lost, or a new one is up.
    Link {
        /// The peer.
        peer: NodeId,
        /// Whether messages can be sent to it now.
        up: bool,
    },
    /// The storage stage finished everything up to this token.
    Persisted {
        /// The persist's token.
        token: u64,
    },
    /// A peer remembers an earlier life of this node, which kept nothing of it.
    Forgot {
        /// What the peer says, for people.
        reason: String,
    },
    /// The disk is full: nothing becomes durable until [`DiskFreed`](Input::DiskFreed).
    DiskFull,
    /// There is space on the disk again.
    DiskFreed,
    /// The storage stage, or the apply stage, cannot go on: the node stops.
    Failed {
        /// Why, for people.
        reason: String,
    },
    /// The apply stage has applied everything up to here.
    Applied {
        /// Last applied index.
        index: Index,
    },
    /// When something falls due in the state machine next.
    MachineDeadline {
        /// In log time; `None`: nothing waits for time.
        time: Option<LogTime>,
    },
    /// Entries for a peer, read back from the log.
    Loaded(Loaded),
    /// The apply stage's answers to requests that peers had forwarded.
    Replies(Vec<PeerReply>),
    /// The apply stage has taken a view of the state machine, to be written as a snapshot.
    SnapshotView(SnapshotView),
    /// A snapshot of this node's own state is durable.
    SnapshotTaken {
        /// The snapshot.
        info: SnapshotInfo,
    },
    /// There is no room on the disk for a snapshot of this node's own state, or it is no longer wanted.
    SnapshotPutOff {
        /// Why, for people.
        reason: String,
    },
    /// A snapshot that this node was sending is complete at the peer, or it was given up.
    SnapshotSent {
        /// The peer.
        to: NodeId,
        /// The term in which it was to be sent.
        term: Term,
        /// Its index.
        index: Index,
        /// Why it was given up, for people.
        outcome: Result<(), String>,
    },
    /// A leader's snapshot has arrived: it is complete, checked and durable.
    SnapshotReceived {
        /// The leader.
        from: NodeId,
        /// The leader's term.
        term: Term,
        /// The snapshot.
        snapshot: SnapshotMeta,
    },
    /// Somebody wants to know how the node is: [`NodeHandle::ask_status`].
    Status {
        /// Gets the answer.
        reply: Reply,
    },
    /// Stop: hand leadership over if there is any, then tell the runtime.
    Stop,
}

/// The way into a node, for gateways, transports and stages. Cloning shares it.
#[derive(Clone)]
pub struct NodeHandle {
    internal: Sender<Input>,
    clients: Sender<ClientRequest>,
    questions: Sender<Reply>,
    progress: Arc<Progress>,
    waiting: Arc<Waiting>,
    metrics: Arc<Metrics>,
    /// Whoever attends to the inboxes listens to it.
    bell: Arc<Bell>,
    /// The event handler, where other threads can give it its turn.
    handler: Arc<OnceLock<Weak<SharedHandler>>>,
}

/// What the apply stage tells the event handler without waking it.
struct Progress {
    applied: AtomicU64,
    /// [`NO_DEADLINE`] if there is none.
    deadline: AtomicU64,
    /// Somebody wants to be [reminded](NodeHandle::remind).
    remind: AtomicBool,
}

const NO_DEADLINE: u64 = u64::MAX;

/// The event handler's side of a [`NodeHandle`].
pub struct Inboxes {
    /// Peers, clocks, storage and apply stages: drained first.
    pub internal: Receiver<Input>,
    /// Clients.
    pub clients: Receiver<ClientRequest>,
    /// Who wants to know how the node is, to be answered before any other client: at most one for each connection.
    questions: Receiver<Reply>,
    progress: Arc<Progress>,
    /// What was taken of the progress last: how far, and the deadline.
    taken: (u64, u64),
    bell: Arc<Bell>,
    attendant: Attendant,
    listeners: Listeners,
}

/// Whoever is told what clients may be waiting for, and that the node has stopped once this is dropped.
struct Listeners(Arc<Waiting>);

impl Drop for Listeners {
    fn drop(&mut self) {
        tell(&self.0, |listener| listener.stopped());
    }
}

fn tell(listeners: &Waiting, what: impl Fn(&dyn Woken)) {
    let listeners = listeners.lock().unwrap_or_else(PoisonError::into_inner);
    listeners.iter().for_each(|listener| what(&**listener));
}

/// Who waits at the inboxes.
enum Attendant {
    /// A thread of the node's own, which serves these sockets beside.
    Thread(Option<Box<threaded::OwnSockets>>),
    /// A task of this runtime.
    #[cfg(feature = "async")]
    Task(tokio::runtime::Handle),
}

impl Inboxes {
    /// What has come besides messages and requests: how far the state machine is, and when something falls due in it, if
    /// that is news; who wants to know how the node is.
    pub fn take_news(&mut self) -> impl Iterator<Item = Input> + use<> {
        let applied = self.progress.applied.load(Ordering::Acquire);
        let deadline = self.progress.deadline.load(Ordering::Acquire);
        let before = std::mem::replace(&mut self.taken, (applied, deadline));
        let applied = (applied > before.0).then_some(Input::Applied { index: Index(applied) });
        let time = (deadline != NO_DEADLINE).then_some(LogTime(deadline));
        let deadline = (deadline != before.1).then_some(Input::MachineDeadline { time });
        let questions: Vec<Reply> = self.questions.try_iter().collect();
        let questions = questions.into_iter().map(|reply| Input::Status { reply });
        applied.into_iter().chain(deadline).chain(questions)
    }

    /// Whether somebody wants to be reminded; once for each time.
    pub(crate) fn take_wish_for_reminder(&self) -> bool {
        // A look first: this comes with every turn.
        self.progress.remind.load(Ordering::Acquire) && self.progress.remind.swap(false, Ordering::AcqRel)
    }

    /// Reminds whoever wanted it.
    pub(crate) fn remind(&self) {
        tell(&self.listeners.0, |listener| listener.reminded());
    }

    /// Who wants to know how the node is.
    pub fn questions(&self) -> &Receiver<Reply> {
        &self.questions
    }
}

/// About how many inputs may wait in the internal inbox; beyond that what peers say is left in their sockets. Everything else in
/// it answers something that the node has asked for, and so is bounded.
const INTERNAL_INPUTS: usize = 64 << 10;
/// About how many client requests may wait in their inbox; beyond that the controller stops reading clients' sockets.
pub(crate) const CLIENT_REQUESTS: usize = 16 << 10;
/// With no more than this in the inboxes, a turn takes less time than waking a thread for it.
const SMALL_TURN: usize = 4;

impl NodeHandle {
    /// A handle, and the inboxes it leads to.
    pub fn new() -> (NodeHandle, Inboxes) {
        NodeHandle::attended_by(Attendant::Thread(None))
    }

    /// The same for a node whose event handler shall also serve sockets: those that come this way.
    ///
    /// # Errors
    /// The system cannot watch sockets.
    pub fn with_sockets() -> io::Result<(NodeHandle, Inboxes, Arc<dyn Sockets>)> {
        let own = threaded::OwnSockets::new()?;
        let sockets = own.sockets();
        let (handle, inboxes) = NodeHandle::attended_by(Attendant::Thread(Some(Box::new(own))));
        Ok((handle, inboxes, sockets))
    }

    /// The same for a node whose event handler will be a task of this runtime.
    #[cfg(feature = "async")]
    pub(crate) fn for_task(tasks: tokio::runtime::Handle) -> (NodeHandle, Inboxes) {
        NodeHandle::attended_by(Attendant::Task(tasks))
    }

    fn attended_by(attendant: Attendant) -> (NodeHandle, Inboxes) {
        // Its bound is kept by those who ask for it: nobody who delivers may wait, for it could be a task of the thread that empties
        // the inbox.
        let (internal, internal_inbox) = crossbeam_channel::unbounded();
        // Its bound is kept by `request`: only an unbounded channel drops what is in it as soon as the other side is gone,
        // and a request that arrives while the node ends is answered by being dropped.
        let (clients, clients_inbox) = crossbeam_channel::unbounded();
        // Unbounded for the same reason: a question that comes while the node ends is dropped, and so answered.
        let (questions, questions_inbox) = crossbeam_channel::unbounded();
        let progress = Arc::new(Progress {
            applied: AtomicU64::new(0),
            deadline: AtomicU64::new(NO_DEADLINE),
            remind: AtomicBool::new(false),
        });
        let bell = Arc::<Bell>::default();
        let (waiting, metrics) = <(Arc<Waiting>, _)>::default();
        let inboxes = Inboxes {
            internal: internal_inbox,
            clients: clients_inbox,
            questions: questions_inbox,
            progress: Arc::clone(&progress),
            taken: (0, NO_DEADLINE),
            bell: Arc::clone(&bell),
            attendant,
            listeners: Listeners(Arc::clone(&waiting)),
        };
        let handler = Arc::default();
        (NodeHandle { internal, clients, questions, progress, waiting, metrics, bell, handler }, inboxes)
    }

    /// Hands in a client's request. When the inbox is full the request comes back, unanswered. A node that has stopped
    /// answers it with [`Failure::NotReady`].
    pub fn request(&self, request: ClientRequest) -> Result<(), ClientRequest> {
        let handed_in = self.enqueue(request);
        self.ring();
        handed_in
    }

    /// Does the same without waking the event handler: for those who hand in several, and [`ring`](Self::ring) then.
    pub fn enqueue(&self, request: ClientRequest) -> Result<(), ClientRequest> {
        if self.clients.len() >= CLIENT_REQUESTS {
            self.metrics.inbox_full.add(1);
            return Err(request);
        }
        if let Err(SendError(request)) = self.clients.send(request) {
            request.reply.send(Err(Failure::NotReady("this node has stopped".into()))).flush();
        }
        Ok(())
    }

    /// Wakes the event handler.
    pub fn ring(&self) {
        self.bell.ring();
    }

    /// Does the same, or, if what waits in the inboxes is little and the event handler is free, gives it its turn on this thread,
    /// which saves waking another. For threads that have nothing more urgent to do, and hold no lock.
    pub(crate) fn turn_or_ring(&self) {
        let is_little = self.internal.len() + self.clients.len() <= SMALL_TURN;
        let handler = self.handler.get().filter(|_| is_little).and_then(Weak::upgrade);
        if !handler.is_some_and(|handler| handler.try_turn()) {
            self.ring();
        }
    }

    /// What the node counts.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// How many inputs wait in the internal inbox, and how many requests in the clients'.
    pub fn waiting_inputs(&self) -> (usize, usize) {
        (self.internal.len(), self.clients.len())
    }

    /// Asks how the node is. However many requests of clients wait, this does not wait behind them. A node that has stopped
    /// drops the reply, which answers it.
    pub fn ask_status(&self, reply: Reply) {
        let _ = self.questions.send(reply);
        self.ring();
    }

    /// Hands in anything else. Never waits. A node that has stopped needs no more inputs: they are dropped.
    pub fn deliver(&self, input: Input) {
        self.enqueue_input(input);
        self.ring();
    }

    /// Does the same without waking the event handler: for those who hand in several, and [`ring`](Self::ring) then.
    pub fn enqueue_input(&self, input: Input) {
        let _ = self.internal.send(input);
    }

    /// Whether whoever can hold messages of peers back may deliver more of them.
    pub fn has_room(&self) -> bool {
        self.internal.len() < INTERNAL_INPUTS
    }

    /// Tells that the state machine has applied everything up to here, and when something falls due in it next. That can
    /// wait for the event handler's next turn, and so wakes nobody: it would cost every single write two more thread switches.
    /// That turn comes with the next heartbeat at the latest; without a leader, with the next campaign.
    pub fn progressed(&self, applied: Index, deadline: Option<LogTime>) {
        self.progress.deadline.store(deadline.map_or(NO_DEADLINE, |deadline| deadline.0), Ordering::Release);
        self.progress.applied.store(applied.0, Ordering::Release);
    }

    /// From now on this is told whatever clients may be waiting for, as soon as it is there.
    pub fn tell_of_woken(&self, listener: Box<dyn Woken>) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(listener);
    }

    /// What clients may be waiting for, by name, is there now, so many times.
    pub fn woken(&self, names: &[(Bytes, u64)]) {
        if !names.is_empty() {
            tell(&self.waiting, |listener| listener.woken(names));
        }
    }

    /// The state machine's state was replaced by a snapshot's.
    pub fn state_replaced(&self) {
        tell(&self.waiting, |listener| listener.replaced());
    }

    /// Whoever is told what clients may be waiting for is [reminded](Woken::reminded) a little later: its requests were refused,
    /// and nothing else tells when to try again.
    pub fn remind(&self) {
        self.progress.remind.store(true, Ordering::Release);
        self.ring();
    }

    /// Hands in what may as well be lost. False if the inbox is full, or the node has stopped: the input is dropped.
    pub fn try_deliver(&self, input: Input) -> bool {
        let is_taken = self.has_room() && self.internal.send(input).is_ok();
        self.ring();
        is_taken
    }
}

/// Is told what clients may have been waiting for, by the node's own threads: it must not block.
pub trait Woken: Send {
    /// These are there now, each so many times.
    fn woken(&self, names: &[(Bytes, u64)]);

    /// The whole state was replaced by a later one: anything may be there now.
    fn replaced(&self) {}

    /// A little time has passed since somebody [wanted](NodeHandle::remind) to be told.
    fn reminded(&self) {}

    /// The node has stopped: there will be nothing more. What was handed in before may still be answered.
    fn stopped(&self) {}
}

type Waiting = Mutex<Vec<Box<dyn Woken>>>;

/// The state machine at one moment.
pub struct SnapshotView {
    /// Last entry that it has applied.
    pub index: Index,
    /// Its term.
    pub term: Term,
    /// Its log time.
    pub time: LogTime,
    /// The state; `None` if this machine has no snapshots.
    pub state: Option<Box<dyn MachineSnapshot>>,
}

/// Entries that the driver had asked for because they were no longer in memory.
pub struct Loaded {
    /// Whom they are for.
    pub peer: NodeId,
    /// The term in which they were asked for.
    pub term: Term,
    /// First index that was asked for.
    pub first: Index,
    /// The entries from there on; empty when the log no longer has them.
    pub entries: Vec<Entry>,
}

/// The answer to a request that a peer had forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerReply {
    /// The peer.
    pub to: NodeId,
    /// The life in which it asked.
    pub life: Life,
    /// Its number for the request.
    pub sequence: u64,
    /// The answer's bytes, or why there is none.
    pub outcome: Result<Payload, Failure>,
}

/// A client's request, as every gateway hands it in.
pub struct ClientRequest {
    /// The client's connection, unique in this process: requests of one connection take effect in the order sent.
    pub connection: u64,
    /// What to do.
    pub operation: Operation,
    /// Pass it on to the leader when this node is not the leader. Otherwise it is refused.
    pub forward: bool,
    /// Gets the one answer.
    pub reply: Reply,
}

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A command for the state machine, through the log.
    Write(Payload),
    /// The same in a client session: sent again with the same stamp it takes effect once, and is answered the same.
    SessionWrite(SessionSequence, Payload),
    /// A linearizable query of the state machine.
    Read(Payload),
    /// A query of this node's own state, as it is.
    LocalRead(Payload),
    /// How this node and its cluster are.
    Status,
    /// Entries of this node's log, for people: from this index (default: the last ones), so many.
    Log {
        /// First index to show.
        from: Option<u64>,
        /// How many at most.
        count: u64,
    },
    /// Write the whole state of the node to its log.
    Debug,
    /// Hand leadership over.
    Transfer {
        /// The new leader; `None`: whoever is best.
        to: Option<NodeId>,
    },
}

impl Operation {
    /// Size of the command or query.
    pub fn payload_bytes(&self) -> usize {
        match self {
            Operation::Write(payload)
            | Operation::SessionWrite(_, payload)
            | Operation::Read(payload)
            | Operation::LocalRead(payload) => payload.len(),
            Operation::Status | Operation::Log { .. } | Operation::Debug | Operation::Transfer { .. } => 0,
        }
    }
}

/// What a client gets.
pub type Outcome = Result<Response, Failure>;

/// A successful answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// The machine's answer to a command or a query.
    Answer(Bytes),
    /// How the node is.
    Status(Box<NodeStatus>),
    /// Entries of the log.
    Log(Vec<LogLine>),
    /// Done.
    Done,
}

/// Takes the one answer to one request. May be used from any thread, and does not block. Dropped unanswered (its thread
/// ended, say), it answers [`Failure::Unknown`]: whatever happens, a client gets exactly one answer.
pub struct Reply {
    sink: Option<Arc<dyn ReplySink>>,
    slot: u64,
}

/// Where answers go: a connection, a channel, a test.
pub trait ReplySink: Send + Sync {
    /// The answer to the request in this slot.
    fn reply(&self, slot: u64, outcome: Outcome);

    /// Sends out what was answered so far. Called once after a batch of answers.
    fn flush(&self) {}
}

impl Reply {
    /// An answer for this slot of this sink.
    pub fn new(sink: Arc<dyn ReplySink>, slot: u64) -> Self {
        Reply { sink: Some(sink), slot }
    }

    /// Answers. The sink is returned so that a batch of answers can be flushed once.
    pub fn send(mut self, outcome: Outcome) -> Arc<dyn ReplySink> {
        let sink = self.sink.take().expect("only send and drop take the sink, and both end the reply");
        sink.reply(self.slot, outcome);
        sink
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(sink) = self.sink.take() {
            sink.reply(self.slot, Err(Failure::Unknown("outcome unknown: the node stopped meanwhile".into())));
            sink.flush();
        }
    }
}

/// How a node and its cluster are, as the node sees them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The node.
    pub id: NodeId,
    /// Its label in raft.ini.
    pub label: String,
    /// Its role.
    pub role: Role,
    /// Its term.
    pub term: u64,
    /// The leader it knows.
    pub leader: Option<NodeId>,
    /// Last index of its log.
    pub last: u64,
    /// Its commit index.
    pub commit: u64,
    /// Last index its state machine applied.
    pub applied: u64,
    /// It neither votes nor counts: it came back with `--rejoin`, or kept nothing and has not caught up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub abstains: bool,
    /// A leader's view of its peers; empty elsewhere.
    pub peers: Vec<PeerStatus>,
}

/// A leader's view of one peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// The peer.
    pub id: NodeId,
    /// Highest index known to be in its log, durably.
    pub matched: u64,
    /// `probe`, `replicate` or `snapshot`.
    pub progress: String,
    /// Milliseconds since it was last heard.
    pub heard_ms: u64,
    /// It neither votes nor counts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub abstains: bool,
}

/// One entry of the log, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Its index.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// Its log time in milliseconds.
    pub time_ms: u64,
    /// `noop`, `command`, `membership` or `tick`.
    pub kind: String,
    /// What it does, in words.
    pub text: String,
    /// Whether it is known to be committed.
    pub committed: bool,
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Answers(Mutex<Vec<(u64, Outcome)>>);

    impl ReplySink for Answers {
        fn reply(&self, slot: u64, outcome: Outcome) {
            self.0.lock().unwrap().push((slot, outcome));
        }
    }

    fn status(answers: &Arc<Answers>, slot: u64) -> ClientRequest {
        let reply = Reply::new(answers.clone(), slot);
        ClientRequest { connection: 1, operation: Operation::Status, forward: true, reply }
    }

    #[test]
    fn whatever_a_node_leaves_behind_is_answered_even_while_others_hold_its_handle() {
        let (node, inboxes) = NodeHandle::new();
        let answers = Arc::new(Answers::default());
        assert!(node.request(status(&answers, 0)).is_ok());
        assert!(answers.0.lock().unwrap().is_empty());
        drop(inboxes);
        assert!(node.request(status(&answers, 1)).is_ok());
        let answers = answers.0.lock().unwrap();
        assert!(matches!(answers[0], (0, Err(Failure::Unknown(_)))));
        assert!(matches!(answers[1], (1, Err(Failure::NotReady(_)))));
        assert_eq!(answers.len(), 2);
    }

    #[test]
    fn a_full_inbox_gives_requests_back() {
        let (node, _inboxes) = NodeHandle::new();
        let answers = Arc::new(Answers::default());
        let taken = (0..).take_while(|&slot| match node.request(status(&answers, slot)) {
            Ok(()) => true,
            Err(request) => {
                request.reply.send(Ok(Response::Done));
                false
            }
        });
        assert_eq!(taken.count(), CLIENT_REQUESTS);
        assert_eq!(answers.0.lock().unwrap().len(), 1, "and unanswered");
    }
}
