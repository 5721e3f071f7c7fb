//! The order of each client connection: where its requests are under way, and which have to wait for them.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::consensus::{Index, NodeId, Payload, Term};
use crate::runtime::stage::Asker;
use crate::transport::ForwardKind;

/// A client's connection, and the node that it was made to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ConnectionKey {
    pub node: NodeId,
    pub connection: u64,
}

/// A leader in its term: where requests go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub leader: NodeId,
    pub term: Term,
}

/// A write or a read on its way.
pub(super) struct Request {
    pub connection: ConnectionKey,
    /// Grows with every request that comes in.
    pub order: u64,
    pub kind: ForwardKind,
    pub payload: Payload,
    pub scope: Scope,
    pub asker: Asker,
    /// When to give up, wherever it is.
    pub expires: Duration,
}

/// Where a request may be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// By the leader, whoever that is.
    Cluster,
    /// By this node, if it leads.
    ThisNode,
    /// By this node, if it leads this term.
    ThisTerm(Term),
}

/// A request that waits, and until when.
struct Held {
    request: Request,
    until: Duration,
}

/// A connection with requests that are under way or held.
///
/// Under way means: sent to a leader, and neither answered, nor certain of its place before everything sent later. At the
/// leader that is so once a write is committed or a read confirmed.
#[derive(Default)]
struct Connection {
    under_way: usize,
    /// Where those are that are under way.
    target: Option<Route>,
    /// The last write that this node, as the leader, has put into its log for this connection.
    last_write: Index,
    /// The order of the last write that was sent anywhere.
    last_write_order: u64,
    /// In order. They wait for a leader, or for those under way to another one.
    held: VecDeque<Held>,
}

/// Every connection that has requests under way or held.
#[derive(Default)]
pub(super) struct Connections {
    /// Without a random key: the order in which a node that ends lets go of them must be the same in every simulation. Keys are
    /// numbers of our own, for which the cheapest hash is good enough; it is made several times for each request.
    active: FxHashMap<ConnectionKey, Connection>,
    /// Those that hold requests.
    holding: BTreeSet<ConnectionKey>,
}

impl Connections {
    /// Whether a request may be sent there now: not before those of its connection that are held, and not while others
    /// are under way to another leader, or to this one on a way that does not keep their order.
    pub fn may_send(&self, request: &Request, route: Route, in_order: bool) -> bool {
        let connection = self.active.get(&request.connection);
        connection.is_none_or(|connection| {
            connection.held.is_empty() && connection.is_free_for(request.scope, route, in_order)
        })
    }

    /// A request is sent.
    pub fn sent(&mut self, request: &Request, route: Route) {
        let connection = self.active.entry(request.connection).or_default();
        connection.under_way += 1;
        if connection.target.replace(route) != Some(route) {
            connection.last_write = Index(0);
        }
        if request.kind.is_write() {
            connection.last_write_order = request.order;
        }
    }

    /// A request that was under way no longer is. True if others were waiting for that.
    pub fn settled(&mut self, key: ConnectionKey) -> bool {
        let Entry::Occupied(mut entry) = self.active.entry(key) else { return false };
        let connection = entry.get_mut();
        connection.under_way = connection.under_way.saturating_sub(1);
        let is_idle = connection.under_way == 0;
        let holds = !connection.held.is_empty();
        if is_idle && !holds {
            entry.remove();
        }
        is_idle && holds
    }

    /// A write has got its place in this node's log.
    pub fn written(&mut self, key: ConnectionKey, index: Index) {
        if let Some(connection) = self.active.get_mut(&key) {
            connection.last_write = index;
        }
    }

    /// The place of the last write, if it may not be committed yet.
    pub fn last_write(&self, key: ConnectionKey) -> Index {
        self.active.get(&key).map_or(Index(0), |connection| connection.last_write)
    }

    /// Whether a read that is still under way can be sent again: not if a later write of its connection may have taken
    /// effect, which it must not see.
    pub fn may_repeat(&self, read: &Request) -> bool {
        self.active.get(&read.connection).is_none_or(|connection| connection.last_write_order < read.order)
    }

    /// Holds a request, in its place among those held.
    pub fn hold(&mut self, request: Request, until: Duration) {
        self.holding.insert(request.connection);
        let held = &mut self.active.entry(request.connection).or_default().held;
        let place = held.iter().rposition(|earlier| earlier.request.order < request.order).map_or(0, |at| at + 1);
        held.insert(place, Held { request, until });
    }

    /// Every connection that holds requests.
    pub fn holding(&self) -> Vec<ConnectionKey> {
        self.holding.iter().copied().collect()
    }

    /// Whether none holds requests.
    pub fn hold_nothing(&self) -> bool {
        self.holding.is_empty()
    }

    /// The scope of the first request that is held.
    pub fn first_held(&self, key: ConnectionKey) -> Option<Scope> {
        self.active.get(&key)?.held.front().map(|held| held.request.scope)
    }

    /// Whether the first request that is held, of this scope, may be sent there.
    pub fn may_release(&self, key: ConnectionKey, scope: Scope, route: Route, in_order: bool) -> bool {
        self.active.get(&key).is_some_and(|connection| connection.is_free_for(scope, route, in_order))
    }

    /// Takes out the first request that is held.
    pub fn release(&mut self, key: ConnectionKey) -> Option<Request> {
        let connection = self.active.get_mut(&key)?;
        let held = connection.held.pop_front()?;
        if connection.held.is_empty() {
            self.holding.remove(&key);
            if connection.under_way == 0 {
                self.active.remove(&key);
            }
        }
        Some(held.request)
    }

    /// Takes out those that were held too long.
    pub fn expired(&mut self, now: Duration) -> Vec<Request> {
        let mut expired = Vec::new();
        for key in self.holding() {
            let Some(connection) = self.active.get_mut(&key) else { continue };
            let held = std::mem::take(&mut connection.held);
            let (due, rest): (VecDeque<_>, _) =
                held.into_iter().partition(|held| held.until.min(held.request.expires) <= now);
            connection.held = rest;
            expired.extend(due.into_iter().map(|held| held.request));
            if connection.held.is_empty() {
                self.holding.remove(&key);
                if connection.under_way == 0 {
                    self.active.remove(&key);
                }
            }
        }
        expired
    }
}

impl Connection {
    /// What a peer forwards has waited there already for what was under way to an earlier leader.
    fn is_free_for(&self, scope: Scope, route: Route, in_order: bool) -> bool {
        self.under_way == 0 || (in_order && self.target == Some(route)) || matches!(scope, Scope::ThisTerm(_))
    }
}
