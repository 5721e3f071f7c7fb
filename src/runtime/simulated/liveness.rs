//! What has to come once the faults are over (I22): a leader, an acknowledged write, and nodes that are equal.

use std::time::Duration;

use super::clients::ClientLinks;
use super::oracle::{Check, hold};
use super::simulation::{Happening, Simulation};
use crate::consensus::{NodeId, Role, Term};

/// Election timeouts until there has to be a leader.
const LEADER: u32 = 20;
/// Until a write has to be acknowledged, besides the time that a client waits for nothing.
const WRITE: u32 = 40;
/// When clients stop, if a write was acknowledged by then, so that nodes can become equal.
const CLIENTS_STOP: u32 = 20;
/// Until all nodes have to be equal.
const EQUAL: u32 = 260;

/// The time to recover.
pub struct Liveness {
    /// When nothing that the faults held up was left.
    began: Duration,
    /// A majority whose links and disks work from now on; nobody hears from the others.
    core: Vec<NodeId>,
    /// Requests that were answered before.
    answered: u64,
    wrote: bool,
    is_over: bool,
}

impl Liveness {
    /// Whether everything that had to come has come.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether clients have stopped.
    pub fn is_quiet(&self, now: Duration, timeout: Duration) -> bool {
        self.wrote && now > self.began + timeout * CLIENTS_STOP
    }
}

impl Simulation {
    /// The faults are over for a majority, and all others are gone for good.
    pub(super) fn begin_recovery(&mut self) -> Check {
        let now = self.now;
        let mut able: Vec<NodeId> = self
            .hosts
            .values()
            .filter(|host| !host.abstains && !host.must_rejoin && host.may_end.is_none())
            .map(|host| host.id)
            .collect();
        let majority = self.scenario.nodes as usize / 2 + 1;
        let is_possible = able.len() >= majority;
        self.dice.shuffle(&mut able);
        let size = if self.dice.once_in(2) { able.len() } else { majority.min(able.len()) };
        let mut core = able[..size].to_vec();
        core.sort_unstable();
        self.trace.line(now, || format!("the faults are over for nodes {core:?}; nobody hears from any other"));
        let began = self.network.heal(&core, self.scenario.nodes).max(now);
        self.client_links = ClientLinks::default();
        self.faults.are_over();
        for host in self.hosts.values_mut() {
            host.disk.mend();
            (host.paused_until, host.slow) = (now, (1, now));
            (host.machine_busy_until, host.disk_hangs_until) = (now, now);
            host.set_clock_rate(1000, now);
            self.schedule.at(now, Happening::Start { node: host.id, epoch: host.epoch });
        }
        let answered = self.report.answered;
        self.liveness = Some(Liveness { began, core, answered, wrote: false, is_over: !is_possible });
        for id in self.hosts.keys().copied().collect::<Vec<_>>() {
            // What has failed is replaced, as it is found.
            if self.hosts[&id].disk.trouble().is_some() {
                self.kill(id, Duration::ZERO)?;
            }
            self.give(id, []);
        }
        self.schedule.at(now, Happening::Look);
        Ok(())
    }

    pub(super) fn look(&mut self) -> Check {
        let (now, timeout) = (self.now, self.scenario.election_timeout());
        let Some(liveness) = &self.liveness else { return Ok(()) };
        let (since, core) = (now.saturating_sub(liveness.began), liveness.core.clone());
        let longest = self.longest_election_timeout(&core);
        let leader = self.leader_of(&core);
        let is_equal = self.are_equal(&core);
        let states = || core.iter().map(|id| self.state_of(*id)).collect::<Vec<_>>().join("; ");
        let patience = Duration::from_millis(self.scenario.load.patience_ms);
        hold!(
            "I22 liveness: a leader",
            leader.is_some() || since <= longest * LEADER || liveness.wrote,
            "no leader {} ms after the last fault: {}",
            since.as_millis(),
            states()
        );
        hold!(
            "I22 liveness: an answer",
            liveness.wrote || since <= longest * WRITE + 2 * patience,
            "no request was answered within {} ms after the last fault: {}",
            since.as_millis(),
            states()
        );
        hold!(
            "I22 liveness: equal nodes",
            since <= longest * EQUAL,
            "the nodes are not equal {} ms after the last fault: {}",
            since.as_millis(),
            states()
        );
        let answered = self.report.answered;
        let Some(liveness) = &mut self.liveness else { return Ok(()) };
        // Without clients there is nobody to answer.
        liveness.wrote |= answered > liveness.answered || self.scenario.clients == 0;
        liveness.is_over = liveness.wrote && is_equal && liveness.is_quiet(now, timeout);
        self.schedule.at(now + timeout, Happening::Look);
        Ok(())
    }

    /// The election timeout, or what nodes that adapt it to a slow network have made of it.
    fn longest_election_timeout(&self, core: &[NodeId]) -> Duration {
        let adapted = |id: &NodeId| Some(self.hosts.get(id)?.process.as_ref()?.driver.server().election_timeout());
        core.iter().filter_map(adapted).max().unwrap_or_default().max(self.scenario.election_timeout())
    }

    /// The leader that a majority of the cluster follows.
    fn leader_of(&self, core: &[NodeId]) -> Option<(Term, NodeId)> {
        let server = |id: &NodeId| Some(self.hosts.get(id)?.process.as_ref()?.driver.server());
        let leads =
            |id: &NodeId| server(id).filter(|server| server.role() == Role::Leader).map(|server| (server.term(), *id));
        let (term, leader) = core.iter().filter_map(leads).max()?;
        let follows = |id: &&NodeId| server(id).is_some_and(|server| server.term() == term);
        (core.iter().filter(follows).count() as u64 > self.scenario.nodes / 2).then_some((term, leader))
    }

    /// Whether all of them have applied everything that was ever committed, and nothing else is in their logs.
    fn are_equal(&self, core: &[NodeId]) -> bool {
        let committed = self.oracle.committed();
        core.iter().all(|id| {
            let server =
                self.hosts.get(id).and_then(|host| host.process.as_ref()).map(|process| process.driver.server());
            server.is_some_and(|server| server.applied() == committed && server.last_index() == committed)
        })
    }

    fn state_of(&self, id: NodeId) -> String {
        match self.hosts.get(&id).and_then(|host| host.process.as_ref()) {
            None => format!("node {id} is down"),
            Some(process) => {
                let server = process.driver.server();
                let (role, term, last) = (server.role(), server.term(), server.last_index());
                let (commit, applied) = (server.commit(), server.applied());
                format!("node {id}: {role:?} of term {term}, log {last}, commit {commit}, applied {applied}")
            }
        }
    }
}
