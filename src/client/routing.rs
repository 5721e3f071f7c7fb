//! Which node gets a request, and what may be tried again.

use std::thread;
use std::time::{Duration, Instant};

use super::error::Effect;
use super::resp::{self, Reply};
use super::{Client, Error, leader};
use crate::consensus::NodeId;

/// The request for the leader's name.
pub(super) const LEADER: [&[u8]; 2] = [b"RAFT", b"LEADER"];
/// How long connecting may take, and an answer that a node gives by itself: then the next node gets its chance.
pub(super) const BRIEF: Duration = Duration::from_secs(1);
/// A node that no longer leads passes requests on without a word: so ask again now and then.
const ROUTE_TRUST: Duration = Duration::from_secs(5);
/// Nodes that name an unreachable leader for longer than any election takes are right: it leads, and we are cut off.
const CUT_OFF_AFTER: Duration = Duration::from_secs(1);
/// First and longest pause between two attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));

/// The node that gets the requests.
#[derive(Clone, Copy)]
pub(super) struct Route {
    node: usize,
    found: Instant,
}

impl Client {
    /// Sends a request until there is an answer or nothing more may be tried: the reply, and whose it is.
    pub(super) fn request(
        &mut self,
        args: &[&[u8]],
        effect: Effect,
        deadline: Instant,
    ) -> Result<(Reply, usize), Error> {
        if self.only {
            let request = resp::encode(&[&[&b"RAFT"[..], b"ONLY"], args].concat());
            return self.call(0, &request, effect, deadline);
        }
        let request = resp::encode(args);
        let mut pauses = Pauses { next: PAUSES.0, deadline };
        let mut patience = self.timeout / 5;
        // Why an earlier attempt may have taken effect, or still may.
        let mut doubt = None;
        loop {
            let error = match self.attempt(&request, effect, patience, deadline) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if !error.is_nodes_answer() {
                self.drop_route();
            }
            match error {
                Error::Timeout(_) => patience = self.longer(patience),
                Error::Unknown(_) => {
                    patience = self.longer(patience);
                    doubt = Some(error.clone());
                }
                Error::NoSession(_) => self.session = None,
                _ => {}
            }
            let may_repeat = error.is_temporary() || (effect == Effect::Once && !error.definite());
            if !may_repeat || !pauses.pause() {
                return Err(doubt.filter(|_| !error.is_outcome()).unwrap_or(error));
            }
        }
    }

    /// Sends a request once. What may be repeated waits for `patience` only, so that a node that hangs leaves time for
    /// another; anything else waits to the end.
    fn attempt(
        &mut self,
        request: &[u8],
        effect: Effect,
        patience: Duration,
        deadline: Instant,
    ) -> Result<(Reply, usize), Error> {
        let node = self.route(deadline)?;
        let until = match effect {
            Effect::Read | Effect::Once => deadline.min(Instant::now() + patience),
            Effect::Write => deadline,
        };
        self.call(node, request, effect, until)
    }

    fn call(&mut self, node: usize, request: &[u8], effect: Effect, until: Instant) -> Result<(Reply, usize), Error> {
        let Some(target) = self.nodes.get_mut(node) else {
            return Err(Error::Usage("there is no node to ask".into()));
        };
        target.call(request, effect, until).map(|reply| (reply, node))
    }

    /// The node to send to: the leader, or whoever passes requests on to it where we cannot reach it.
    fn route(&mut self, deadline: Instant) -> Result<usize, Error> {
        match self.route {
            Some(route) if route.found.elapsed() < ROUTE_TRUST => return Ok(route.node),
            Some(route) => self.search_from = route.node,
            None => {}
        }
        let (informant, named) = self.find_leader(deadline)?;
        let node = match self.nodes.iter().position(|node| node.address.id == named) {
            Some(leader) if leader != informant => self.reach_leader(leader, informant, deadline)?,
            _ => informant,
        };
        self.route = Some(Route { node, found: Instant::now() });
        Ok(node)
    }

    /// Asks one node after the other who leads: the first that knows, and whom it names.
    fn find_leader(&mut self, deadline: Instant) -> Result<(usize, NodeId), Error> {
        let brief = self.brief();
        let request = resp::encode(&LEADER);
        let mut reasons = Vec::new();
        let mut not_ready = false;
        for offset in 0..self.nodes.len() {
            let informant = (self.search_from + offset) % self.nodes.len();
            let until = deadline.min(Instant::now() + brief);
            match self.call(informant, &request, Effect::Read, until).and_then(|(reply, _)| leader(reply)) {
                Ok(named) => return Ok((informant, named.id)),
                Err(error) => {
                    not_ready |= matches!(error, Error::NotReady(_));
                    reasons.push(error.to_string());
                }
            }
        }
        let reasons = reasons.join("; ");
        Err(match not_ready {
            true => Error::NotReady(format!("no leader: {reasons}")),
            false => Error::Unreachable(format!("no node answers, is the cluster running? {reasons}")),
        })
    }

    /// The leader if it can be reached. If not it may have died just now, and soon another one is named; or only we are
    /// cut off from it, and the informant has to pass our requests on.
    fn reach_leader(&mut self, leader: usize, informant: usize, deadline: Instant) -> Result<usize, Error> {
        let until = deadline.min(Instant::now() + self.brief());
        let Some(Err(error)) = self.nodes.get_mut(leader).map(|node| node.reach(until)) else {
            self.cut_off = None;
            return Ok(leader);
        };
        let since = match self.cut_off {
            Some((node, since)) if node == leader => since,
            _ => Instant::now(),
        };
        self.cut_off = Some((leader, since));
        if since.elapsed() >= CUT_OFF_AFTER {
            return Ok(informant);
        }
        self.search_from = (informant + 1) % self.nodes.len();
        Err(error)
    }

    fn drop_route(&mut self) {
        if let Some(route) = self.route.take() {
            self.search_from = (route.node + 1) % self.nodes.len();
        }
    }

    /// Twice the patience. The deadline comes before all of the time would be waited for.
    fn longer(&self, patience: Duration) -> Duration {
        (2 * patience).min(self.timeout)
    }

    fn brief(&self) -> Duration {
        BRIEF.min(self.timeout / 5)
    }
}

/// Growing pauses between attempts.
struct Pauses {
    next: Duration,
    deadline: Instant,
}

impl Pauses {
    /// Waits; `false` if there is no time left for another attempt.
    fn pause(&mut self) -> bool {
        if Instant::now() + self.next >= self.deadline {
            return false;
        }
        thread::sleep(self.next);
        self.next = (self.next * 2).min(PAUSES.1);
        true
    }
}
