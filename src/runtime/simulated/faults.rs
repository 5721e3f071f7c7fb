//! Makes happen what the scenario says goes wrong.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::dice::Dice;
use super::disk::{SimulatedDisk, Trouble};
use super::oracle::Check;
use super::scenario::{FaultKind, Scenario, Target};
use super::schedule::Schedule;
use super::simulation::{Happening, Simulation};
use crate::consensus::{NodeId, Role};
use crate::runtime::{ClientRequest, Input, Operation, Outcome, Reply, ReplySink};
use crate::storage::Start;

/// What faults need to remember.
#[derive(Default)]
pub struct Memory {
    /// How long a node stays down when it ends.
    down: BTreeMap<NodeId, Duration>,
    /// Disks as they were, by the number of the fault that will put them back, and in which start.
    copies: BTreeMap<usize, (NodeId, SimulatedDisk, Start)>,
}

/// A fault ends, or begins to be prepared.
#[derive(Clone, Copy)]
pub enum Ending {
    /// The disk that the fault of this number will put back is copied.
    Copy(usize),
    /// There is room on the disk again.
    Room(NodeId),
}

impl Memory {
    /// Prepares what has to be.
    pub(super) fn plan(scenario: &Scenario, schedule: &mut Schedule<Happening>) -> Self {
        for (number, fault) in scenario.faults.iter().enumerate() {
            if let FaultKind::OldCopy { age_ms, .. } = fault.kind {
                let at = Duration::from_millis(fault.at_ms.saturating_sub(age_ms));
                schedule.at(at, Happening::Ends(Ending::Copy(number)));
            }
        }
        Memory::default()
    }

    /// How long this node stays down now.
    pub fn down_for(&self, id: NodeId) -> Duration {
        self.down.get(&id).copied().unwrap_or(Duration::from_millis(50))
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
        self.report.faults += 1;
        if fault.kind.target().is_some_and(|target| self.targets(target).is_empty()) {
            self.report.skipped += 1;
        }
        let (now, ms) = (self.now, Duration::from_millis);
        match fault.kind {
            FaultKind::Cut { links, for_ms } => self.network.cut(&links, now + ms(for_ms)),
            FaultKind::Clog { links, for_ms } => self.network.clog(&links, now + ms(for_ms)),
            FaultKind::Kill { target, down_ms } => {
                for id in self.targets(target) {
                    self.report.crashes += u64::from(self.hosts[&id].process.is_some());
                    self.kill(id, ms(down_ms))?;
                }
            }
            FaultKind::PowerLoss { target, after, down_ms } => {
                for id in self.targets(target) {
                    self.faults.down.insert(id, ms(down_ms));
                    match self.hosts.get(&id) {
                        Some(host) if after > 0 => host.disk.trouble_after(after, Trouble::PowerCut),
                        _ => self.power_off(id, ms(down_ms))?,
                    }
                }
            }
            FaultKind::Stop { target, down_ms } => {
                for id in self.targets(target) {
                    self.faults.down.insert(id, ms(down_ms));
                    self.give(id, [Input::Stop]);
                }
            }
            FaultKind::DiskFails { target, after, down_ms } => {
                for id in self.targets(target) {
                    self.faults.down.insert(id, ms(down_ms));
                    if let Some(host) = self.hosts.get(&id) {
                        host.disk.trouble_after(after, Trouble::Error);
                    }
                }
            }
            FaultKind::DiskFull { target, room, for_ms } => {
                for id in self.targets(target) {
                    if let Some(host) = self.hosts.get(&id) {
                        host.disk.files().set_room(room);
                    }
                    self.schedule.at(now + ms(for_ms), Happening::Ends(Ending::Room(id)));
                }
            }
            FaultKind::Transfer => {
                for id in self.targets(Target::Leader) {
                    let reply = Reply::new(std::sync::Arc::new(Nobody), 0);
                    let operation = Operation::Transfer { to: None };
                    let request = ClientRequest { connection: u64::MAX, operation, forward: false, reply };
                    if let Some(process) = self.hosts.get_mut(&id).and_then(|host| host.process.as_mut()) {
                        process.requests.push(request);
                    }
                    self.give(id, []);
                }
            }
            FaultKind::BitRot { target, place, down_ms } => {
                for id in self.targets(target) {
                    self.kill(id, ms(down_ms))?;
                    self.rot(id, place);
                }
            }
            FaultKind::Wipe { target, down_ms } => {
                for id in self.targets(target) {
                    if !self.is_known_to_all(id, None) {
                        self.report.skipped += 1;
                        continue;
                    }
                    self.kill(id, ms(down_ms))?;
                    self.exchange(id, SimulatedDisk::new(), "its disk was wiped");
                }
            }
            FaultKind::OldCopy { down_ms, .. } => match self.faults.copies.remove(&number) {
                Some((id, copy, start)) if self.is_known_to_all(id, Some(start)) => {
                    self.kill(id, ms(down_ms))?;
                    self.exchange(id, copy, "its disk is an older copy");
                }
                _ => self.report.skipped += 1,
            },
            FaultKind::Pause { target, for_ms } => {
                self.each_host(target, |host| host.paused_until = now + ms(for_ms));
            }
            FaultKind::Slow { target, times, for_ms } => {
                self.each_host(target, |host| host.slow = (times, now + ms(for_ms)));
            }
            FaultKind::DiskHangs { target, for_ms } => {
                self.each_host(target, |host| host.disk_hangs_until = now + ms(for_ms));
            }
            FaultKind::ClockRate { target, per_mille } => {
                self.each_host(target, |host| {
                    host.clock_per_mille = per_mille;
                    if let Some(process) = &mut host.process {
                        process.set_clock_rate(per_mille, now);
                    }
                });
                for id in self.targets(target) {
                    self.give(id, []);
                }
            }
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
            Ending::Copy(number) => {
                let Some(FaultKind::OldCopy { target, .. }) = self.scenario.faults.get(number).map(|f| f.kind.clone())
                else {
                    return Ok(());
                };
                for id in self.targets(target) {
                    let Some(host) = self.hosts.get(&id) else { continue };
                    if let Some(process) = &host.process {
                        self.faults.copies.insert(number, (id, host.disk.copied(), process.start));
                    }
                }
            }
        }
        Ok(())
    }

    fn each_host(&mut self, target: Target, mut change: impl FnMut(&mut super::host::Host)) {
        for id in self.targets(target) {
            self.hosts.get_mut(&id).into_iter().for_each(&mut change);
        }
    }

    fn targets(&self, target: Target) -> Vec<NodeId> {
        match target {
            Target::Node(number) => vec![NodeId(number)],
            Target::Everyone => self.hosts.keys().copied().collect(),
            Target::Leader => {
                let leads = |(id, host): (&NodeId, &super::host::Host)| {
                    let server = host.process.as_ref()?.driver.server();
                    (server.role() == Role::Leader).then_some((server.term(), *id))
                };
                self.hosts.iter().filter_map(leads).max().into_iter().map(|(_, id)| id).collect()
            }
        }
    }

    /// Whether every other node durably knows the present start of this one, and so recognises whatever is older. If it is to
    /// be put back to an earlier start, it must have been started again since.
    fn is_known_to_all(&self, id: NodeId, earlier: Option<Start>) -> bool {
        let Some(process) = self.hosts.get(&id).and_then(|host| host.process.as_ref()) else { return false };
        let start = process.start;
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

    /// A byte of a file changes. Not in the newest segment of the log: what is at its very end after a crash, nobody can tell
    /// from a write that was interrupted.
    fn rot(&mut self, id: NodeId, place: u64) {
        let dice = &mut Dice::new(place, "rot");
        let Some(host) = self.hosts.get_mut(&id) else { return };
        let files = host.disk.files();
        let mut all: Vec<(PathBuf, Vec<u8>)> = files.all().into_iter().filter(|(_, bytes)| !bytes.is_empty()).collect();
        let newest =
            all.iter().map(|(path, _)| path.clone()).filter(|path| path.extension().is_some_and(|e| e == "wal")).max();
        all.retain(|(path, _)| Some(path) != newest.as_ref());
        // There are more segments than snapshots.
        let is_snapshot = |(path, _): &(PathBuf, Vec<u8>)| path.extension().is_some_and(|e| e == "snapshot");
        if all.iter().any(is_snapshot) && dice.once_in(2) {
            all.retain(is_snapshot);
        }
        if all.is_empty() {
            self.report.skipped += 1;
            return;
        }
        let (path, mut bytes) = all.swap_remove(dice.below(all.len() as u64) as usize);
        let at = dice.below(bytes.len() as u64) as usize;
        bytes[at] ^= 1 << dice.below(8);
        files.set(&path, &bytes);
        host.may_end = Some("its disk is damaged");
        self.trace.line(self.now, || format!("node {id}: byte {at} of {} changes", path.display()));
    }
}
