//! Makes happen what the scenario says goes wrong.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::dice::Dice;
use super::disk::{SimulatedDisk, Trouble};
use super::host::Host;
use super::oracle::{Check, hold};
use super::report::{Befallen, Standing};
use super::scenario::{FaultKind, Loses, Rotten, Scenario, Target, Way};
use super::schedule::Schedule;
use super::simulation::{Happening, Simulation, is_segment};
use crate::consensus::{NodeId, Role, Term};
use crate::runtime::{ClientRequest, Input, Operation, Outcome, Reply, ReplySink};
use crate::storage::{Start, StorageError};

/// Why a node may refuse to start that then comes back with an empty disk.
pub const DAMAGED: &str = "its disk is damaged";

/// What faults need to remember.
#[derive(Default)]
pub struct Memory {
    /// How long a node stays down when it ends.
    down: BTreeMap<NodeId, Duration>,
    /// Disks as they were, by the number of the fault that will put them back, and in which start.
    copies: BTreeMap<usize, (NodeId, SimulatedDisk, Start)>,
    /// What the next power loss of a node takes.
    loses: BTreeMap<NodeId, Loses>,
    /// Where the newest segment of a node rots once it has stopped.
    rots: BTreeMap<NodeId, u64>,
    /// A machine has lost power after its syncs had lied.
    has_lied: bool,
}

/// A fault ends, or begins to be prepared.
#[derive(Clone, Copy)]
pub enum Ending {
    /// The disk that the fault of this number will put back is copied.
    Copy(usize),
    /// There is room on the disk again.
    Room(NodeId),
    /// The machine whose syncs have lied loses power.
    Lies(NodeId, Duration),
    /// The fault of this number is over.
    Fault(usize),
}

impl Memory {
    /// Prepares what has to be.
    pub(super) fn plan(scenario: &Scenario, schedule: &mut Schedule<Happening>) -> Self {
        for (number, fault) in scenario.faults.iter().enumerate() {
            let over = fault.at_ms + fault.kind.lasts_ms();
            schedule.at(Duration::from_millis(over.min(scenario.time_ms)), Happening::Ends(Ending::Fault(number)));
            if let FaultKind::OldCopy { age_ms, .. } = fault.kind {
                let at = Duration::from_millis(fault.at_ms.saturating_sub(age_ms));
                schedule.at(at, Happening::Ends(Ending::Copy(number)));
            }
        }
        Memory::default()
    }

    /// What this node's next power loss takes.
    pub fn loses(&self, id: NodeId) -> Loses {
        self.loses.get(&id).copied().unwrap_or_default()
    }

    /// Whether anything may be wrong by now, since a disk has lied.
    pub fn has_lied(&self) -> bool {
        self.has_lied
    }

    /// How long this node stays down now.
    pub fn down_for(&self, id: NodeId) -> Duration {
        self.down.get(&id).copied().unwrap_or(Duration::from_millis(50))
    }

    /// From now on no node stays down for long: one may still be on its way to an end that began before.
    pub fn are_over(&mut self) {
        self.down.clear();
    }
}

/// Nobody waits for the answer.
struct Nobody;

impl ReplySink for Nobody {
    fn reply(&self, _: u64, _: Outcome) {}
}

impl Simulation {
    pub(super) fn fault(&mut self, number: usize) -> Check {
        if self.liveness.is_some() {
            return Ok(());
        }
        let Some(fault) = self.scenario.faults.get(number).cloned() else { return Ok(()) };
        self.trace.line(self.now, || format!("fault {number}: {:?}", fault.kind));
        let nodes = fault.kind.target().map(|target| self.targets(target));
        self.report.faults += 1;
        self.report.skipped += u64::from(nodes.as_ref().is_some_and(Vec::is_empty));
        let (nodes, began) = (nodes.unwrap_or_default(), self.standing());
        self.report.befallen.push(Befallen { fault: number, nodes: nodes.clone(), began, ended: None });
        let over = self.now + Duration::from_millis(fault.kind.lasts_ms());
        match fault.kind {
            FaultKind::Cut { links, .. } => self.network.cut(&links, over),
            FaultKind::Clog { links, .. } => self.network.clog(&links, over),
            FaultKind::Storm { copies, .. } => self.network.storm(copies, over),
            FaultKind::OldCopy { down_ms, .. } => return self.put_back(number, Duration::from_millis(down_ms)),
            kind => return nodes.into_iter().try_for_each(|id| self.befall(id, &kind, over)),
        }
        Ok(())
    }

    /// One node meets with a fault that is `over` then.
    fn befall(&mut self, id: NodeId, kind: &FaultKind, over: Duration) -> Check {
        let (now, ms) = (self.now, Duration::from_millis);
        // Whatever stands still goes on when the faults are over.
        let until = over.min(ms(self.scenario.time_ms));
        match *kind {
            // These befall no single node.
            FaultKind::Cut { .. } | FaultKind::Clog { .. } | FaultKind::Storm { .. } | FaultKind::OldCopy { .. } => {}
            FaultKind::Isolate { way, .. } => self.isolate(id, way, over),
            FaultKind::Unheard { way, held, .. } => self.client_links.cut(id, way, held, over),
            FaultKind::Kill { down_ms, .. } => {
                self.report.crashes += u64::from(self.hosts[&id].process.is_some());
                return self.kill(id, ms(down_ms));
            }
            FaultKind::PowerLoss { after, loses, down_ms, .. } => return self.cut_power(id, after, loses, ms(down_ms)),
            FaultKind::Stop { down_ms, .. } => self.stop(id, ms(down_ms)),
            FaultKind::Pause { .. } => self.change(id, |host| host.paused_until = until),
            FaultKind::Slow { times, .. } => self.change(id, |host| host.slow = (times, over)),
            FaultKind::Busy { .. } => self.change(id, |host| host.machine_busy_until = until),
            FaultKind::ClockRate { per_mille, .. } => self.set_clock(id, |host| host.set_clock_rate(per_mille, now)),
            FaultKind::ClockJumps { by_ms, .. } => self.set_clock(id, |host| host.jump(ms(by_ms), now)),
            FaultKind::DiskHangs { .. } => self.change(id, |host| host.disk_hangs_until = until),
            FaultKind::DiskFails { after, once, down_ms, .. } => {
                let trouble = if once { Trouble::OneError } else { Trouble::Error };
                self.faults.down.insert(id, ms(down_ms));
                self.change(id, |host| host.disk.trouble_after(after, trouble));
            }
            FaultKind::DiskFull { room, .. } => {
                self.change(id, |host| host.disk.files().set_room(room));
                self.schedule.at(over, Happening::Ends(Ending::Room(id)));
            }
            FaultKind::BitRot { file: Rotten::Newest, place, down_ms, .. } => {
                self.faults.rots.insert(id, place);
                self.stop(id, ms(down_ms));
            }
            FaultKind::BitRot { file, place, down_ms, .. } => {
                self.kill(id, ms(down_ms))?;
                self.rot(id, file, place);
            }
            FaultKind::Wipe { down_ms, .. } => return self.wipe(id, ms(down_ms)),
            FaultKind::OtherDisk { of, down_ms, .. } => return self.take_disk_of(id, NodeId(of), ms(down_ms)),
            FaultKind::SyncsLie { for_ms, down_ms, .. } => {
                self.change(id, |host| host.disk.lie());
                self.schedule.at(now + ms(for_ms), Happening::Ends(Ending::Lies(id, ms(down_ms))));
            }
            FaultKind::SecondProcess { .. } => return self.second_process(id),
            FaultKind::Rush { requests, .. } => self.rush(id, requests),
            FaultKind::Transfer => self.hand_over(id),
            FaultKind::OldSnapshot { .. } => self.send_oldest_snapshot(id),
        }
        Ok(())
    }

    fn change(&mut self, id: NodeId, change: impl FnOnce(&mut Host)) {
        if let Some(host) = self.hosts.get_mut(&id) {
            change(host);
        }
    }

    /// Its clock goes otherwise from now on, and so its deadlines come at other times.
    fn set_clock(&mut self, id: NodeId, change: impl FnOnce(&mut Host)) {
        self.change(id, change);
        self.give(id, []);
    }

    fn isolate(&mut self, id: NodeId, way: Way, over: Duration) {
        let others = || (1..=self.scenario.nodes).filter(|other| *other != id.0);
        let out: Vec<(u64, u64)> = others().map(|other| (id.0, other)).collect();
        let back: Vec<(u64, u64)> = others().map(|other| (other, id.0)).collect();
        if way != Way::In {
            self.network.cut(&out, over);
        }
        if way != Way::Out {
            self.network.cut(&back, over);
        }
    }

    fn stop(&mut self, id: NodeId, down: Duration) {
        self.faults.down.insert(id, down);
        self.give(id, [Input::Stop]);
    }

    fn cut_power(&mut self, id: NodeId, after: u64, loses: Loses, down: Duration) -> Check {
        self.faults.loses.insert(id, loses);
        self.faults.down.insert(id, down);
        match self.hosts.get(&id) {
            Some(host) if after > 0 => host.disk.trouble_after(after, Trouble::PowerCut),
            _ => return self.power_off(id, down),
        }
        Ok(())
    }

    /// A leader is asked to hand leadership over.
    fn hand_over(&mut self, id: NodeId) {
        let operation = Operation::Transfer { to: None };
        let reply = Reply::new(Arc::new(Nobody), 0);
        let request = ClientRequest { connection: u64::MAX, operation, forward: false, reply };
        if let Some(process) = self.hosts.get_mut(&id).and_then(|host| host.process.as_mut()) {
            process.requests.push(request);
        }
        self.give(id, []);
    }

    fn wipe(&mut self, id: NodeId, down: Duration) -> Check {
        if !self.is_known_to_all(id, None) {
            self.report.skipped += 1;
            return Ok(());
        }
        self.kill(id, down)?;
        self.exchange(id, SimulatedDisk::new(), "its disk was wiped");
        Ok(())
    }

    fn take_disk_of(&mut self, id: NodeId, of: NodeId, down: Duration) -> Check {
        let copy = self.hosts.get(&of).filter(|_| id != of).map(|host| host.disk.copied());
        let Some(copy) = copy else {
            self.report.skipped += 1;
            return Ok(());
        };
        self.kill(id, down)?;
        self.exchange(id, copy, DAMAGED);
        Ok(())
    }

    /// The disk is what it was when it was copied for the fault of this number.
    fn put_back(&mut self, number: usize, down: Duration) -> Check {
        match self.faults.copies.remove(&number) {
            Some((id, copy, start)) if self.is_known_to_all(id, Some(start)) => {
                self.kill(id, down)?;
                self.exchange(id, copy, "its disk is an older copy");
            }
            _ => self.report.skipped += 1,
        }
        Ok(())
    }

    pub(super) fn fault_ends(&mut self, ending: Ending) -> Check {
        match ending {
            Ending::Room(id) => {
                if let Some(host) = self.hosts.get(&id) {
                    host.disk.files().unlimit();
                }
            }
            Ending::Fault(number) => {
                let standing = self.standing();
                if let Some(befallen) = self.report.befallen.iter_mut().find(|befallen| befallen.fault == number) {
                    befallen.ended = Some(standing);
                }
            }
            // The power fails, unless it has failed since.
            Ending::Lies(id, down) => {
                if self.liveness.is_none() && self.hosts.get(&id).is_some_and(|host| host.disk.lied() > 0) {
                    return self.power_off(id, down);
                }
            }
            Ending::Copy(number) => {
                let Some(FaultKind::OldCopy { target, .. }) = self.scenario.faults.get(number).map(|f| f.kind.clone())
                else {
                    return Ok(());
                };
                for id in self.targets(target) {
                    let Some(host) = self.hosts.get(&id) else { continue };
                    if let Some(process) = &host.process {
                        self.faults.copies.insert(number, (id, host.disk.copied(), process.lineage.start));
                    }
                }
            }
        }
        Ok(())
    }

    fn targets(&self, target: Target) -> Vec<NodeId> {
        match target {
            Target::Node(number) => vec![NodeId(number)],
            Target::Everyone => self.hosts.keys().copied().collect(),
            Target::Follower => {
                let leader = self.leader();
                let follows = |(id, host): (&NodeId, &Host)| {
                    (host.process.is_some() && leader.is_none_or(|(_, leader)| leader != *id)).then_some(*id)
                };
                self.hosts.iter().find_map(follows).into_iter().collect()
            }
            Target::Leader => self.leader().into_iter().map(|(_, id)| id).collect(),
        }
    }

    /// The node that leads the highest term that anybody leads.
    fn leader(&self) -> Option<(Term, NodeId)> {
        let leads = |(id, host): (&NodeId, &Host)| {
            let server = host.process.as_ref()?.driver.server();
            (server.role() == Role::Leader).then_some((server.term(), *id))
        };
        self.hosts.iter().filter_map(leads).max()
    }

    fn standing(&self) -> Standing {
        let (committed, answered) = (self.oracle.committed().0, self.report.answered);
        Standing { at: self.now, leader: self.leader(), committed, answered, waits: self.report.waits }
    }

    /// Whether every other node durably knows the present start of this one, and so recognises whatever is older. If it is to
    /// be put back to an earlier start, it must have been started again since.
    fn is_known_to_all(&self, id: NodeId, earlier: Option<Start>) -> bool {
        let Some(process) = self.hosts.get(&id).and_then(|host| host.process.as_ref()) else { return false };
        let start = process.lineage.start;
        let is_later = earlier.is_none_or(|earlier| earlier.life.boot < start.life.boot);
        let is_first = self.hosts[&id].abstains || self.hosts.values().any(|host| host.must_rejoin || host.abstains);
        is_later && !is_first && self.hosts.values().all(|host| host.id == id || host.knows(id, start))
    }

    fn exchange(&mut self, id: NodeId, disk: SimulatedDisk, why: &'static str) {
        let Some(host) = self.hosts.get_mut(&id) else { return };
        host.disk = disk;
        host.may_end = Some(why);
        self.oracle.disk_lost(id);
    }

    /// A node has stopped because it was asked to. `is_closed`: and has marked the end of its log.
    pub(super) fn stopped(&mut self, id: NodeId, is_closed: bool) {
        match self.faults.rots.remove(&id) {
            Some(place) if is_closed && self.liveness.is_none() => self.rot(id, Rotten::Newest, place),
            Some(_) => self.report.skipped += 1,
            None => {}
        }
    }

    /// A bit of a file changes.
    fn rot(&mut self, id: NodeId, file: Rotten, place: u64) {
        let dice = &mut Dice::new(place, "rot");
        let Some(host) = self.hosts.get_mut(&id) else { return };
        let files = host.disk.files();
        let mut all: Vec<(PathBuf, Vec<u8>)> = files.all().into_iter().filter(|(_, bytes)| !bytes.is_empty()).collect();
        let newest = all.iter().map(|(path, _)| path.clone()).filter(|path| is_segment(path)).max();
        let is_newest = |path: &PathBuf| Some(path) == newest.as_ref();
        all.retain(|(path, _)| match file {
            Rotten::Any => !is_newest(path),
            Rotten::Segment => is_segment(path) && !is_newest(path),
            Rotten::Newest => is_newest(path),
            Rotten::Snapshot => path.extension().is_some_and(|extension| extension == "snapshot"),
            Rotten::Identity => path.ends_with("identity"),
            Rotten::Peers => path.ends_with("peers"),
        });
        // There are more segments than snapshots.
        let is_snapshot = |(path, _): &(PathBuf, Vec<u8>)| path.extension().is_some_and(|e| e == "snapshot");
        if file == Rotten::Any && all.iter().any(is_snapshot) && dice.once_in(2) {
            all.retain(is_snapshot);
        }
        if all.is_empty() {
            self.report.skipped += 1;
            return;
        }
        let (path, mut bytes) = all.swap_remove(dice.below(all.len() as u64) as usize);
        let length = match file {
            // What is behind the last byte that means something was never written.
            Rotten::Segment | Rotten::Newest => bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1),
            _ => bytes.len(),
        };
        let at = match file {
            // Its end is looked at before all of it is.
            Rotten::Snapshot if dice.once_in(4) => length - 1 - dice.below(length.min(16) as u64) as usize,
            _ => dice.below(length as u64) as usize,
        };
        bytes[at] ^= 1 << dice.below(8);
        files.set(&path, &bytes);
        host.may_end = Some(DAMAGED);
        self.report.rotted += 1;
        self.trace.line(self.now, || format!("node {id}: byte {at} of {} changes", path.display()));
    }

    /// The power fails: if syncs have lied, everything since is gone, and nobody can demand any more that all is well.
    pub(super) fn lies_come_out(&mut self, id: NodeId) {
        let Some(host) = self.hosts.get_mut(&id).filter(|host| host.disk.lied() > 0) else { return };
        self.report.lied += host.disk.lied();
        host.may_end = Some(DAMAGED);
        self.faults.has_lied = true;
        self.faults.loses.insert(id, Loses::All);
        self.oracle.disk_lost(id);
    }

    /// Another process opens a node's folder. It must be told that the folder is in use, and leave it as it is.
    fn second_process(&mut self, id: NodeId) -> Check {
        let number = self.dice.number();
        let Some(host) = self.hosts.get(&id).filter(|host| host.process.is_some()) else {
            self.report.skipped += 1;
            return Ok(());
        };
        let before = host.disk.files().all();
        let opened = host.open(&self.scenario, [number; 2]);
        if host.disk.trouble().is_some() {
            // The disk failed just then, or before.
            return self.after_disk_use(id);
        }
        let is_refused = matches!(opened, Err(StorageError::Refused(_)));
        hold!("a folder has one process", is_refused, "a second process opens the folder of node {id}");
        hold!(
            "a folder has one process",
            before == host.disk.files().all(),
            "a second process changes the folder of node {id}"
        );
        self.report.locked_out += 1;
        Ok(())
    }

    /// The leader sends its oldest snapshot, whatever the receiver has.
    fn send_oldest_snapshot(&mut self, to: NodeId) {
        let leader = self.leader().filter(|(_, id)| *id != to);
        let Some((term, from)) = leader else { return self.report.skipped += 1 };
        let process = self.hosts.get(&from).and_then(|host| host.process.as_ref());
        let Some(oldest) = process
            .and_then(|process| process.store.list().into_iter().map(|info| info.meta).min_by_key(|meta| meta.index))
        else {
            self.report.skipped += 1;
            return;
        };
        self.begin_transfer(from, to, term, oldest, Arc::default());
    }
}
