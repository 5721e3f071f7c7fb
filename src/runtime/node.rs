//! A running node: its threads, and a few simple calls for programs that use it as a library.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

#[cfg(feature = "async")]
use super::asynchronous::{self, AsyncRuntime};
use super::guard::spawn_guarded;
use super::handler::EventHandler;
use super::threaded::{OwnSockets, clock::Clock, handler::SharedHandler};
use crate::config::RuntimeKind;
use crate::consensus::Payload;
use crate::machine::Machine;
use crate::runtime::driver::Ended;
use crate::runtime::parts::{NodeOptions, Parts};
use crate::runtime::stage::{SharedApply, Stage, Step};
use crate::runtime::{
    Attendant, Bell, ClientRequest, Inboxes, Input, NodeHandle, NodeStatus, Operation, Outcome, Reply, ReplySink,
    Response,
};
use crate::storage::{Storage, StorageError};
use crate::transport::{Failure, Transport};

/// Connections of library calls are numbered from here: gateways count theirs from 0.
const LIBRARY_CONNECTIONS: u64 = 1 << 63;

/// How often a node that stops says what it still waits for.
const REPORT_INTERVAL: Duration = Duration::from_millis(250);

/// How long [`Node::kill`] waits for the node's threads.
const KILL_PATIENCE: Duration = Duration::from_secs(2);

/// A running node. Dropping it stops it, without waiting for what is under way; [`stop`](Node::stop) waits.
pub struct Node {
    handle: NodeHandle,
    next_connection: AtomicU64,
    /// Set once.
    ended: Arc<OnceLock<Ended>>,
    /// Disconnected once `ended` is set.
    running: Receiver<()>,
    threads: Vec<&'static str>,
    finished: Receiver<&'static str>,
    /// Its own, if it has one: what its event handler runs on.
    #[cfg(feature = "async")]
    runtime: Option<AsyncRuntime>,
}

impl Node {
    /// Starts a node: recovers what its storage remembers, and starts its threads. `connect` makes the transport that
    /// delivers to the handle it is given.
    pub fn start<T: Transport + 'static>(
        options: NodeOptions,
        storage: Box<dyn Storage>,
        machine: Box<dyn Machine>,
        connect: impl FnOnce(&NodeHandle) -> T,
    ) -> Result<Node, StorageError> {
        let (handle, inboxes) = NodeHandle::new();
        let transport = Box::new(connect(&handle));
        Node::assemble(options, storage, machine, transport, handle, inboxes)
    }

    /// Like [`start`](Node::start), on this runtime: `start` takes the threaded one.
    ///
    /// # Errors
    /// The disk failed or does not hold what was written, the system cannot start a thread, or this build has no such runtime.
    pub fn start_on<T: Transport + 'static>(
        runtime: RuntimeKind,
        options: NodeOptions,
        storage: Box<dyn Storage>,
        machine: Box<dyn Machine>,
        connect: impl FnOnce(&NodeHandle) -> T,
    ) -> Result<Node, StorageError> {
        match runtime {
            RuntimeKind::ThreadedRuntime => Node::start(options, storage, machine, connect),
            #[cfg(feature = "async")]
            RuntimeKind::AsyncRuntime => {
                let started = AsyncRuntime::start(&format!("node-{}", options.server.id));
                let (runtime, handle, inboxes) = started.map_err(|error| StorageError::Io(error.to_string()))?;
                let transport = Box::new(connect(&handle));
                let mut node = Node::assemble(options, storage, machine, transport, handle, inboxes)?;
                node.runtime = Some(runtime);
                Ok(node)
            }
            #[cfg(not(feature = "async"))]
            RuntimeKind::AsyncRuntime => Err(StorageError::Io(super::NO_ASYNC_RUNTIME.into())),
        }
    }

    /// Like [`start`](Node::start), around a handle that gateways and a transport have got already. Its inboxes know whether a
    /// thread waits at them or a task.
    pub fn assemble(
        options: NodeOptions,
        storage: Box<dyn Storage>,
        machine: Box<dyn Machine>,
        transport: Box<dyn Transport>,
        handle: NodeHandle,
        mut inboxes: Inboxes,
    ) -> Result<Node, StorageError> {
        let Parts { mut driver, storage, apply, loader, snapshot } =
            Parts::assemble(options, storage, machine, transport, &handle, seed())?;
        let (finish, finished) = unbounded();
        let mut threads = Threads { handle: handle.clone(), finish, names: Vec::new() };
        threads.spawn("storage", move || run_stage(storage))?;
        let bell = Arc::clone(apply.jobs().bell());
        let apply = SharedApply::new(apply);
        driver.apply_at_once(Arc::downgrade(&apply));
        threads.spawn("apply", move || run_steps(&bell, || apply.step()))?;
        threads.spawn("loader", move || run_stage(loader))?;
        threads.spawn("snapshot", move || run_stage(snapshot))?;
        let ended = Arc::new(OnceLock::new());
        let (runs, running) = bounded(0);
        let end = {
            let ended = Arc::clone(&ended);
            move |outcome| {
                ended.get_or_init(|| outcome);
                drop::<Sender<()>>(runs);
            }
        };
        let attendant = std::mem::replace(&mut inboxes.attendant, Attendant::Thread(None));
        let handler = EventHandler::new(driver, inboxes);
        match attendant {
            Attendant::Thread(sockets) => threads.handle_events(handler, sockets, end)?,
            #[cfg(feature = "async")]
            Attendant::Task(tasks) => threads.leave_events_to(&tasks, handler, end),
        }
        Ok(Node {
            handle,
            next_connection: AtomicU64::new(0),
            ended,
            running,
            threads: threads.names,
            finished,
            #[cfg(feature = "async")]
            runtime: None,
        })
    }

    /// The way into the node, for gateways.
    pub fn handle(&self) -> NodeHandle {
        self.handle.clone()
    }

    /// Puts a command through the log, wherever the leader is, and waits for the state machine's answer.
    pub fn propose(&self, command: impl Into<Bytes>) -> Result<Bytes, Failure> {
        answer(self.call(Operation::Write(Payload(command.into())))?)
    }

    /// Asks the state machine, linearizably: the answer reflects every command that was answered before this call.
    pub fn query(&self, query: impl Into<Bytes>) -> Result<Bytes, Failure> {
        answer(self.call(Operation::Read(Payload(query.into())))?)
    }

    /// How the node and its cluster are.
    pub fn status(&self) -> Result<NodeStatus, Failure> {
        match self.call(Operation::Status)? {
            Response::Status(status) => Ok(*status),
            _ => Err(unexpected()),
        }
    }

    fn call(&self, operation: Operation) -> Outcome {
        let (sender, receiver) = bounded(1);
        let connection = LIBRARY_CONNECTIONS + self.next_connection.fetch_add(1, Ordering::Relaxed);
        let reply = Reply::new(Arc::new(Caller(sender)), 0);
        let request = ClientRequest { connection, operation, forward: true, reply };
        if let Err(request) = self.handle.request(request) {
            let overloaded = Failure::Overloaded("too many requests wait in the node's inbox; try again later".into());
            request.reply.send(Err(overloaded));
        }
        receiver.recv().unwrap_or_else(|_| Err(Failure::Unknown("outcome unknown: the node stopped meanwhile".into())))
    }

    /// Waits until the node has ended. An error says why it ended by itself.
    pub fn wait(&self) -> Ended {
        // Nothing is sent: this returns when the other side is gone.
        let _ = self.running.recv();
        self.ended.get().cloned().unwrap_or_else(|| Err("the event handler is gone".into()))
    }

    /// Ends the node at once, much like a crash: nothing is handed over, and nothing under way is waited for. For tests
    /// and demonstrations.
    pub fn kill(mut self) {
        self.handle.deliver(Input::Failed { reason: "killed".into() });
        let _ = self.join(KILL_PATIENCE);
    }

    /// Nothing is ever received from this channel; it is disconnected once the node has ended. For those who wait for
    /// something else at the same time.
    pub fn running(&self) -> &Receiver<()> {
        &self.running
    }

    /// Stops the node, and waits for that for `patience` at most: it hands leadership over if it leads, answers what is
    /// under way, and finishes writing. An error says why the node had ended before, or what did not stop in time.
    pub fn stop(mut self, patience: Duration) -> Ended {
        self.handle.deliver(Input::Stop);
        self.join(patience)
    }

    /// Waits for the node's threads, and says so when it takes long.
    fn join(&mut self, patience: Duration) -> Ended {
        let began = Instant::now();
        while !self.threads.is_empty() {
            let left = patience.saturating_sub(began.elapsed());
            match self.finished.recv_timeout(left.min(REPORT_INTERVAL)) {
                Ok(finished) => self.threads.retain(|thread| *thread != finished),
                // Until the event handler ends it says itself what it waits for, and the others wait for that.
                Err(_) if began.elapsed() < patience && self.threads.contains(&EVENT_HANDLER) => {}
                Err(_) if began.elapsed() < patience => {
                    log::info!("stopping: waiting for {}", self.threads.join(", "));
                }
                Err(_) => {
                    let hanging = self.threads.join(", ");
                    log::warn!("gave up waiting for {hanging}");
                    return Err(format!("did not stop within {} ms: {hanging}", patience.as_millis()));
                }
            }
        }
        self.wait()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.handle.deliver(Input::Stop);
    }
}

fn answer(response: Response) -> Result<Bytes, Failure> {
    match response {
        Response::Answer(bytes) => Ok(bytes),
        _ => Err(unexpected()),
    }
}

fn unexpected() -> Failure {
    Failure::Unknown("outcome unknown: the node gave an answer to another kind of request".into())
}

/// A seed for election timeouts, different on every node and at every start. Nothing but a tie depends on it, so the
/// time is good enough should the system have no randomness.
fn seed() -> u64 {
    getrandom::u64().unwrap_or_else(|_| {
        let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        since.as_nanos() as u64 ^ u64::from(std::process::id())
    })
}

/// A library call that waits.
struct Caller(Sender<Outcome>);

impl ReplySink for Caller {
    fn reply(&self, _slot: u64, outcome: Outcome) {
        // One answer, room for one: never full.
        let _ = self.0.try_send(outcome);
    }
}

/// Runs a stage on this thread until it ends.
fn run_stage<S: Stage>(mut stage: S) {
    let bell = Arc::clone(stage.jobs().bell());
    run_steps(&bell, || stage.step());
}

/// Does what is to be done, and waits for the bell while there is nothing.
fn run_steps(bell: &Bell, mut step: impl FnMut() -> Step) {
    loop {
        let longest = match step() {
            Step::Worked => continue,
            Step::Ended => return,
            Step::Blocked(wait) => {
                thread::sleep(wait);
                continue;
            }
            Step::Idle => None,
            Step::Rest(wait) => Some(wait),
        };
        bell.wait(longest);
    }
}

/// Starts a node's threads, and hears of each one's end.
struct Threads {
    handle: NodeHandle,
    finish: Sender<&'static str>,
    names: Vec<&'static str>,
}

const EVENT_HANDLER: &str = "event handler";
const PANICKED: &str = "the event handler panicked";

impl Threads {
    /// Starts the event handler's thread, and those of its clocks. `end` is told how it ended.
    fn handle_events(
        &mut self,
        handler: EventHandler,
        sockets: Option<Box<OwnSockets>>,
        end: impl FnOnce(Ended) + Send + 'static,
    ) -> Result<(), StorageError> {
        let clocks = [(); 2].map(|()| Arc::new(Clock::new(handler.start)));
        for (name, clock) in ["election clock", "heartbeat clock"].into_iter().zip(&clocks) {
            let (clock, node) = (Arc::clone(clock), self.handle.clone());
            self.spawn(name, move || clock.run(&node))?;
        }
        let handler = SharedHandler::new(handler, clocks.clone(), &self.handle);
        self.spawn(EVENT_HANDLER, move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| handler.run(sockets)));
            handler.discard();
            clocks.iter().for_each(|clock| clock.stop());
            end(outcome.unwrap_or_else(|_| Err(PANICKED.into())));
        })
    }

    /// The same as a task, which needs no threads for its clocks.
    #[cfg(feature = "async")]
    fn leave_events_to(
        &mut self,
        tasks: &tokio::runtime::Handle,
        handler: EventHandler,
        end: impl FnOnce(Ended) + Send + 'static,
    ) {
        let handling = tasks.spawn(asynchronous::run_handler(handler));
        let finish = self.finish.clone();
        tasks.spawn(async move {
            end(handling.await.unwrap_or_else(|_| Err(PANICKED.into())));
            let _ = finish.send(EVENT_HANDLER);
        });
        self.names.push(EVENT_HANDLER);
    }

    /// Starts a thread. A panic in it stops the node.
    fn spawn(&mut self, name: &'static str, run: impl FnOnce() + Send + 'static) -> Result<(), StorageError> {
        let (handle, finish, finish_failed) = (self.handle.clone(), self.finish.clone(), self.finish.clone());
        let body = move || {
            run();
            let _ = finish.send(name);
        };
        let panicked = move |reason| {
            handle.deliver(Input::Failed { reason });
            let _ = finish_failed.send(name);
        };
        spawn_guarded(name, body, panicked)
            .map_err(|error| StorageError::Io(format!("cannot start the {name} thread: {error}")))?;
        self.names.push(name);
        Ok(())
    }
}
