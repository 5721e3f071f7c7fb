//! The loop: takes what is due, in order of virtual time, and lets the oracle look at what came of it.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::clients::{Answers, Client, ClientLinks};
use super::dice::Dice;
use super::disk::Trouble;
use super::host::{Host, Process, StageKind, StageState};
use super::network::Network;
use super::observed::{Notes, Observation};
use super::oracle::{Check, OperationId, Oracle, Violation, fail, hold};
use super::report::{Report, Trace, mixed};
use super::scenario::Scenario;
use super::schedule::Schedule;
use super::snapshots::Transfers;
use crate::consensus::NodeId;
use crate::marks;
use crate::runtime::stage::Step;
use crate::runtime::{ClientRequest, Input, Outcome};
use crate::storage::StorageError;

/// What a process needs to take notice of what it was given, at least.
const HANDLING: Duration = Duration::from_micros(5);

/// Something that will happen.
pub(super) enum Happening {
    /// A frame arrives.
    Frame { from: (NodeId, u64), to: (NodeId, u64), bytes: Bytes },
    /// A node tries to connect to another.
    Dial { from: (NodeId, u64), to: NodeId },
    /// A node notices that a connection is gone.
    HangUp { from: (NodeId, u64), to: NodeId },
    /// The driver's next turn.
    Turn { node: (NodeId, u64) },
    /// A stage takes a step.
    Stage { node: (NodeId, u64), stage: StageKind },
    /// What a stage has done is finished.
    Done { node: (NodeId, u64), stage: StageKind, inputs: Vec<Input>, step: Step },
    /// Something of a snapshot on its way.
    Transfer(super::snapshots::Happening),
    /// A client does something.
    Client(usize),
    /// A request reaches a node.
    Request { client: usize, to: NodeId, number: u64 },
    /// An answer that was held up reaches its client.
    Answer { operation: OperationId, outcome: Outcome },
    /// A client looks whether it has waited for too long.
    GiveUp { client: usize },
    /// The fault with this number.
    Fault(usize),
    /// A fault ends.
    Ends(super::faults::Ending),
    /// A node starts.
    Start { node: NodeId, epoch: u64 },
    /// The faults are over: from now on the cluster has to recover.
    Recover,
    /// Looks whether it has.
    Look,
}

/// A simulation under way.
pub(super) struct Simulation {
    pub scenario: Scenario,
    pub now: Duration,
    pub schedule: Schedule<Happening>,
    pub hosts: BTreeMap<NodeId, Host>,
    pub network: Network,
    pub transfers: Transfers,
    pub clients: Vec<Client>,
    pub client_links: ClientLinks,
    pub answers: Arc<Answers>,
    pub oracle: Oracle,
    pub notes: Notes,
    pub report: Report,
    pub trace: Trace,
    pub faults: super::faults::Memory,
    pub liveness: Option<super::liveness::Liveness>,
    /// For what nodes draw, and what takes how long.
    pub dice: Dice,
    pub disk_dice: Dice,
}

/// A simulation that went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// What is not as it must be.
    pub violation: Violation,
    /// When, in virtual time.
    pub at: Duration,
    /// What was done until then.
    pub report: Report,
    /// What happened last, in words, if it was asked for.
    pub trace: Vec<String>,
}

impl Failed {
    /// Whether another run of the same scenario went exactly the same way.
    pub fn is_same(&self, other: &Failed) -> bool {
        (&self.violation, self.at, &self.report) == (&other.violation, other.at, &other.report)
    }
}

/// Runs a scenario to its end. `lines`: how many lines of what happened to keep; each is also given to `tell`.
///
/// # Errors
/// An invariant is broken, the cluster has not recovered, or something panicked.
pub fn simulate(scenario: &Scenario, lines: usize, tell: Option<&mut dyn FnMut(&str)>) -> Result<Report, Box<Failed>> {
    let mut trace = Trace::new(lines);
    // What else this thread has done does not count.
    marks::take();
    let mut simulation = Simulation::new(scenario.clone(), std::mem::take(&mut trace));
    let mut tell = tell;
    let ended = catch_unwind(AssertUnwindSafe(|| {
        while simulation.step()? {
            if let Some(tell) = &mut tell {
                simulation.trace.fresh().for_each(|line| tell(&line));
            }
        }
        Ok(())
    }));
    let ended = ended.unwrap_or_else(|panic| fail("nothing panics", words(&*panic)));
    simulation.trace.logged(simulation.now, None);
    if let Some(tell) = &mut tell {
        simulation.trace.fresh().for_each(|line| tell(&line));
    }
    simulation.finish_report();
    match ended {
        Ok(()) => Ok(simulation.report),
        Err(violation) => Err(Box::new(Failed {
            violation,
            at: simulation.now,
            report: simulation.report,
            trace: simulation.trace.kept(),
        })),
    }
}

/// What somebody said who panicked.
fn words(panic: &(dyn Any + Send)) -> String {
    let said = panic.downcast_ref::<&str>().map(|said| (*said).to_owned());
    said.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no words".into())
}

impl Simulation {
    fn new(scenario: Scenario, trace: Trace) -> Self {
        let seed = scenario.seed;
        let mut schedule = Schedule::new();
        let mut hosts = BTreeMap::new();
        for id in (1..=scenario.nodes).map(NodeId) {
            hosts.insert(id, Host::new(id));
            schedule.at(Duration::from_micros(id.0), Happening::Start { node: id, epoch: 0 });
        }
        for (number, fault) in scenario.faults.iter().enumerate() {
            schedule.at(Duration::from_millis(fault.at_ms), Happening::Fault(number));
        }
        let faults = super::faults::Memory::plan(&scenario, &mut schedule);
        let clients = (0..scenario.clients as usize).map(|number| Client::new(number, &scenario)).collect::<Vec<_>>();
        for number in 0..clients.len() {
            schedule.at(Duration::from_millis(1), Happening::Client(number));
        }
        schedule.at(Duration::from_millis(scenario.time_ms), Happening::Recover);
        Simulation {
            now: Duration::ZERO,
            schedule,
            hosts,
            network: Network::new(seed, &scenario.network),
            transfers: Transfers::default(),
            clients,
            client_links: ClientLinks::default(),
            answers: Arc::default(),
            oracle: Oracle::new(scenario.nodes),
            notes: Notes::default(),
            report: Report::default(),
            trace,
            faults,
            liveness: None,
            dice: Dice::new(seed, "nodes"),
            disk_dice: Dice::new(seed, "disks"),
            scenario,
        }
    }

    /// The next thing that happens. False: nothing more will, or nothing more can be demanded.
    fn step(&mut self) -> Result<bool, Violation> {
        match self.next() {
            Err(violation) if self.faults.has_lied() => {
                self.report.excused += 1;
                self.trace.line(self.now, || format!("after syncs that lied: {violation}"));
                Ok(false)
            }
            other => other,
        }
    }

    fn next(&mut self) -> Result<bool, Violation> {
        let Some((at, happening)) = self.schedule.pop() else { return Ok(false) };
        self.now = at;
        self.report.mix(at.as_nanos() as u64);
        self.happen(happening)?;
        Ok(!self.liveness.as_ref().is_some_and(|liveness| liveness.is_over()))
    }

    fn happen(&mut self, happening: Happening) -> Check {
        match happening {
            Happening::Frame { from, to, bytes } => self.frame_arrives(from, to, bytes),
            Happening::Dial { from, to } => self.dial(from, to),
            Happening::HangUp { from, to } => self.hang_up(from, to),
            Happening::Turn { node } => self.turn(node),
            Happening::Stage { node, stage } => self.stage(node, stage),
            Happening::Done { node, stage, inputs, step } => self.stage_done(node, stage, inputs, step),
            Happening::Transfer(happening) => self.transfer(happening),
            Happening::Client(number) => self.client_acts(number),
            Happening::Request { client, to, number } => self.request_arrives(client, to, number),
            Happening::Answer { operation, outcome } => self.told(operation, outcome),
            Happening::GiveUp { client } => self.give_up(client),
            Happening::Fault(number) => self.fault(number),
            Happening::Ends(ending) => self.fault_ends(ending),
            Happening::Start { node, epoch } => self.start(node, epoch),
            Happening::Recover => self.begin_recovery(),
            Happening::Look => self.look(),
        }
    }

    /// The process of that epoch, if it still runs.
    pub fn host(&mut self, (id, epoch): (NodeId, u64)) -> Option<&mut Host> {
        self.hosts.get_mut(&id).filter(|host| host.epoch == epoch && host.process.is_some())
    }

    // The life of a node.

    fn start(&mut self, id: NodeId, epoch: u64) -> Check {
        let numbers = [self.dice.number(), self.dice.number(), self.dice.number()];
        let (now, scenario) = (self.now, &self.scenario);
        let Some(host) = self.hosts.get_mut(&id) else { return Ok(()) };
        if host.epoch != epoch || host.process.is_some() {
            return Ok(());
        }
        let started = host.start(scenario, &self.notes, numbers, now);
        self.report.mix(host.disk.hash());
        self.trace.line(now, || match &started {
            Ok(()) => format!("node {id} starts"),
            Err(error) => format!("node {id} does not start: {error}"),
        });
        match started {
            Ok(()) => {
                self.report.starts += 1;
                self.observe(id)?;
                let Some(host) = self.hosts.get(&id) else { return Ok(()) };
                if let Some(process) = &host.process {
                    self.oracle.started(id, process.driver.server());
                }
                let from = (id, host.epoch);
                for to in (1..=self.scenario.nodes).map(NodeId).filter(|to| *to != id) {
                    self.schedule.at(now + HANDLING, Happening::Dial { from, to });
                }
                self.plan_turn(id, now);
                Ok(())
            }
            Err(error) => self.start_failed(id, &error),
        }
    }

    fn start_failed(&mut self, id: NodeId, error: &StorageError) -> Check {
        // What was recovered before the failure is of no consequence.
        self.notes.take();
        let Some(host) = self.hosts.get_mut(&id) else { return Ok(()) };
        match host.disk.trouble() {
            Some(Trouble::PowerCut) => return self.power_off(id, Duration::from_millis(50)),
            Some(Trouble::Error | Trouble::OneError) => {
                self.report.disk_failures += 1;
                return self.kill(id, Duration::from_millis(50));
            }
            None => {}
        }
        if let StorageError::Full(_) = error {
            // Somebody makes room, and starts it again.
            return self.kill(id, Duration::from_millis(200));
        }
        hold!("a node starts on what it has written", host.may_end.is_some(), "node {id} does not start: {error}");
        self.report.refused += 1;
        self.report.unreadable += 1;
        self.rejoin(id)
    }

    /// Somebody does what the message says: the node comes back, as one that abstains, with an empty disk if its own is damaged.
    pub fn rejoin(&mut self, id: NodeId) -> Check {
        let Some(host) = self.hosts.get_mut(&id) else { return Ok(()) };
        if host.may_end == Some(super::faults::DAMAGED) {
            host.disk = super::disk::SimulatedDisk::new();
        }
        host.may_end = None;
        host.must_rejoin = true;
        self.oracle.disk_lost(id);
        self.kill(id, Duration::from_millis(100))
    }

    /// The process is gone, and what it has written stays. It starts again after this time.
    pub fn kill(&mut self, id: NodeId, down: Duration) -> Check {
        self.end(id, down, |host, _| host.disk.after_kill())
    }

    /// The machine is without power. It starts again after this time.
    pub fn power_off(&mut self, id: NodeId, down: Duration) -> Check {
        self.report.power_cuts += 1;
        self.lies_come_out(id);
        let (garbles, loses) = (self.scenario.disks.garbles, self.faults.loses(id));
        self.end(id, down, |host, dice| host.disk.after_power_loss(dice, garbles, loses))
    }

    fn end(
        &mut self,
        id: NodeId,
        down: Duration,
        left: impl FnOnce(&Host, &mut Dice) -> super::disk::SimulatedDisk,
    ) -> Check {
        let Some(host) = self.hosts.get_mut(&id) else { return Ok(()) };
        // Before anything of the process is dropped, which may tidy up after itself.
        self.report.mix(host.disk.hash());
        host.disk = left(host, &mut self.disk_dice);
        host.epoch += 1;
        let (epoch, ran) = (host.epoch, host.process.take().is_some());
        if ran {
            self.report.ends += 1;
            self.trace.line(self.now, || format!("node {id} is gone"));
        }
        self.observe(id)?;
        self.oracle.ended(id);
        self.connections_lost(id);
        self.transfers.ended(id);
        self.schedule.at(self.now + down, Happening::Start { node: id, epoch });
        self.take_answers()
    }

    // Turns and stages.

    /// Sees to it that the driver has a turn at this time at the latest.
    pub fn plan_turn(&mut self, id: NodeId, at: Duration) {
        let Some(host) = self.hosts.get_mut(&id) else { return };
        let node = (id, host.epoch);
        self.report.paused += u64::from(host.process.is_some() && host.paused_until > at.max(self.now));
        let at = at.max(host.paused_until).max(self.now);
        let Some(process) = &mut host.process else { return };
        if process.turn_at.is_none_or(|planned| at < planned) {
            process.turn_at = Some(at);
            self.schedule.at(at, Happening::Turn { node });
        }
    }

    /// Gives a running node something for its next turn.
    pub fn give(&mut self, id: NodeId, inputs: impl IntoIterator<Item = Input>) {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(&id) else { return };
        let soon = now + host.stretched(HANDLING, now);
        let Some(process) = &mut host.process else { return };
        process.inputs.extend(inputs);
        self.plan_turn(id, soon);
    }

    fn turn(&mut self, node: (NodeId, u64)) -> Check {
        let (now, id) = (self.now, node.0);
        let applies_at_once = self.scenario.settings.applies_at_once;
        self.oracle.before_turn(id);
        let Some(host) = self.host(node) else { return Ok(()) };
        let (paused_until, may_apply) = (host.paused_until, applies_at_once && host.machine_busy_until <= now);
        let Some(process) = &mut host.process else { return Ok(()) };
        if process.turn_at != Some(now) {
            return Ok(());
        }
        process.turn_at = None;
        if paused_until > now {
            self.report.paused += 1;
            self.plan_turn(id, paused_until);
            return Ok(());
        }
        let local = process.local(now);
        let mut inputs = process.delivered();
        inputs.append(&mut process.inputs);
        if process.ticks(local) {
            inputs.insert(0, Input::Tick);
        }
        let requests: Vec<ClientRequest> = std::mem::take(&mut process.requests);
        let events = (inputs.len() + requests.len()) as u64;
        process.turn(local, inputs, requests, may_apply);
        self.report.events += events;
        self.after_turn(id)
    }

    fn after_turn(&mut self, id: NodeId) -> Check {
        let now = self.now;
        let Some(process) = self.hosts.get(&id).and_then(|host| host.process.as_ref()) else { return Ok(()) };
        let (ended, server) = (process.driver.ended().cloned(), process.driver.server());
        let (role, term) = (server.role(), server.term());
        self.oracle.after_turn(id, server)?;
        // What the turn has applied by itself was committed by then.
        self.observe(id)?;
        if let Some(ended) = ended {
            return self.node_ended(id, ended);
        }
        let Some(process) = self.hosts.get_mut(&id).and_then(|host| host.process.as_mut()) else { return Ok(()) };
        let (outgoing, applied) = (process.outbox.take(), process.delivered());
        let next = process.next_deadline();
        self.report.mix(term.0 << 8 | role as u64);
        self.trace.role(now, id, role, term);
        for outgoing in outgoing {
            self.leave(id, outgoing)?;
        }
        if !applied.is_empty() {
            self.give(id, applied);
        }
        self.take_answers()?;
        for stage in StageKind::ALL {
            self.plan_stage(id, stage);
        }
        if let Some(next) = next {
            self.plan_turn(id, next);
        }
        self.check_entries_bound(id)
    }

    fn node_ended(&mut self, id: NodeId, ended: Result<(), String>) -> Check {
        self.trace.line(self.now, || format!("node {id} ends: {ended:?}"));
        let Some(host) = self.hosts.get_mut(&id) else { return Ok(()) };
        let trouble = host.disk.trouble();
        match (ended, trouble) {
            (_, Some(Trouble::PowerCut)) => self.power_off(id, Duration::from_millis(50)),
            // It was asked to stop: its storage stage still has to close.
            (Ok(()), _) => {
                let is_closed = host.process.take().map(Process::close);
                self.report.ends += u64::from(is_closed.is_some());
                self.observe(id)?;
                self.kill(id, self.faults.down_for(id))?;
                self.stopped(id, is_closed == Some(true));
                Ok(())
            }
            (Err(_), Some(Trouble::Error | Trouble::OneError)) => {
                self.report.disk_failures += 1;
                self.kill(id, Duration::from_millis(100))
            }
            (Err(reason), None) => {
                hold!("a node goes on", host.may_end.is_some(), "node {id} stops by itself: {reason}");
                self.report.refused += 1;
                self.rejoin(id)
            }
        }
    }

    /// Lets a stage begin if it has something to do, and does nothing else.
    pub fn plan_stage(&mut self, id: NodeId, stage: StageKind) {
        let now = self.now;
        let Some(host) = self.hosts.get(&id) else { return };
        let begins = now + host.stretched(HANDLING, now);
        let Some(process) = &host.process else { return };
        let is_free = match process.stages[stage as usize] {
            StageState::Idle => true,
            StageState::Planned(at) => at > begins,
            StageState::Blocked(_) | StageState::Working | StageState::Ended => false,
        };
        if is_free && process.has_work(stage) {
            self.plan_step(id, stage, StageState::Planned(begins));
        }
    }

    fn plan_step(&mut self, id: NodeId, stage: StageKind, state: StageState) {
        let Some(host) = self.hosts.get_mut(&id) else { return };
        let node = (id, host.epoch);
        let Some(process) = &mut host.process else { return };
        process.stages[stage as usize] = state;
        if let StageState::Planned(at) | StageState::Blocked(at) = state {
            self.schedule.at(at, Happening::Stage { node, stage });
        }
    }

    fn stage(&mut self, node: (NodeId, u64), stage: StageKind) -> Check {
        let (now, id) = (self.now, node.0);
        let sync = Duration::from_micros(self.scenario.disks.sync_us);
        let Some(host) = self.host(node) else { return Ok(()) };
        let (operations, paused_until) = (host.disk.operations(), host.paused_until);
        let full = host.disk.full();
        let Some(process) = &mut host.process else { return Ok(()) };
        match process.stages[stage as usize] {
            StageState::Planned(at) | StageState::Blocked(at) if at == now => {}
            // It was planned for another time since.
            _ => return Ok(()),
        }
        if paused_until > now {
            self.plan_step(id, stage, StageState::Planned(paused_until));
            return Ok(());
        }
        process.stages[stage as usize] = StageState::Working;
        let step = process.step(stage);
        let inputs: Vec<Input> = process.delivered();
        let trouble = host.disk.trouble();
        let hash = host.disk.hash();
        let touched = host.disk.operations() > operations;
        let hangs_until = host.disk_hangs_until;
        let full = host.disk.full() - full;
        self.report.mix(hash);
        self.observe(id)?;
        self.take_answers()?;
        if trouble == Some(Trouble::PowerCut) {
            return self.power_off(id, self.faults.down_for(id));
        }
        let usual = match stage {
            _ if touched => sync / 8 + self.disk_dice.around(sync),
            _ => Duration::from_micros(2 + self.disk_dice.below(20)),
        };
        let Some(host) = self.hosts.get_mut(&id) else { return Ok(()) };
        let mut done = now + host.stretched(usual, now);
        if touched {
            self.report.hung += u64::from(hangs_until > done);
            done = done.max(hangs_until);
        }
        if stage == StageKind::Apply {
            self.report.busy += u64::from(host.machine_busy_until > done);
            done = done.max(host.machine_busy_until);
        }
        self.report.full += full;
        self.schedule.at(done.max(host.paused_until), Happening::Done { node, stage, inputs, step });
        Ok(())
    }

    fn stage_done(&mut self, node: (NodeId, u64), stage: StageKind, inputs: Vec<Input>, step: Step) -> Check {
        let (now, id) = (self.now, node.0);
        let Some(host) = self.host(node) else { return Ok(()) };
        let Some(process) = &mut host.process else { return Ok(()) };
        let state = match step {
            Step::Ended => StageState::Ended,
            Step::Blocked(wait) => StageState::Blocked(now + wait),
            _ if process.has_work(stage) => StageState::Planned(now),
            Step::Worked => StageState::Planned(now),
            Step::Rest(wait) => StageState::Planned(now + wait),
            Step::Idle => StageState::Idle,
        };
        self.plan_step(id, stage, state);
        if !inputs.is_empty() {
            self.give(id, inputs);
        }
        if stage == StageKind::Snapshot { self.check_snapshots_bound(id) } else { Ok(()) }
    }

    /// Lets the oracle hear what was written down in a node.
    pub fn observe(&mut self, id: NodeId) -> Check {
        self.trace.logged(self.now, id);
        for observation in self.notes.take() {
            match observation {
                Observation::Recovered { hard_state, base, terms } => {
                    self.oracle.recovered(id, hard_state, base, &terms)?;
                }
                Observation::Wrote(batch) => self.oracle.wrote(id, &batch)?,
                Observation::Synced => self.oracle.synced(id)?,
                Observation::Snapshot => self.report.snapshots += 1,
                Observation::Applied { index, command, answer, digest } => {
                    self.report.mix(mixed(index.0, digest));
                    self.oracle.applied(id, index, &command, answer.as_ref(), digest)?;
                }
                Observation::Restored { index, digest } => {
                    self.report.restored += 1;
                    self.oracle.restored(id, index, digest)?;
                }
            }
        }
        Ok(())
    }

    /// The limit on what a node keeps in memory (I21).
    fn check_entries_bound(&self, id: NodeId) -> Check {
        let Some(process) = self.hosts.get(&id).and_then(|host| host.process.as_ref()) else { return Ok(()) };
        let bytes = process.driver.entries_bytes();
        // Its own limit, and what a leader may have under way to it.
        let limit = 4 * self.scenario.settings.max_pending_bytes + (1 << 20);
        hold!("I21 bounds", bytes <= limit, "node {id} has {bytes} bytes of entries in memory, of {limit}");
        Ok(())
    }

    /// The limit on how many snapshots it keeps (I21), after whatever may have added one.
    pub fn check_snapshots_bound(&self, id: NodeId) -> Check {
        let Some(process) = self.hosts.get(&id).and_then(|host| host.process.as_ref()) else { return Ok(()) };
        let snapshots = process.store.list().len();
        hold!("I21 bounds", snapshots <= 12, "node {id} keeps {snapshots} snapshots");
        Ok(())
    }

    fn finish_report(&mut self) {
        for host in self.hosts.values() {
            self.report.mix(host.disk.hash());
        }
        self.report.simulated = self.now;
        self.report.marks = marks::take();
        self.report.elections = self.oracle.elections();
        self.report.committed = self.oracle.committed().0;
        self.report.operations = self.oracle.answers_checked();
        self.report.repeated = self.oracle.repeated();
        let log_bytes = |host: &Host| {
            host.disk
                .files()
                .all()
                .iter()
                .filter(|(path, _)| is_segment(path))
                .map(|(_, bytes)| bytes.len() as u64)
                .sum()
        };
        self.report.log_bytes = self.hosts.values().map(log_bytes).max().unwrap_or_default();
    }
}

/// Whether this is a file of the log.
pub fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "wal")
}
