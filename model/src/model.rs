//! The model as stateright sees it, and what is remembered while it is explored.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use stateright::{Model, Property};

use crate::actions::{Action, Reaction};
use crate::bounds::{Bounds, Cuts};
use crate::projection::{ByPrint, Renamings};
use crate::properties;
use crate::state::{Node, State};

/// A cluster within bounds.
pub struct RaftModel {
    pub bounds: Bounds,
    pub renamings: Renamings,
    pub cuts: Cuts,
    /// Letters that can change nothing any more are left out. Always, except to see that it makes no difference.
    pub forgets_spent: bool,
    /// Whoever knows no leader asks for pre-votes at once, not some time. Always, but to see the same.
    pub asks_at_once: bool,
    /// Pre-votes that are denied are not counted. Always, but to see the same.
    pub ignores_denials: bool,
    /// Enough: nothing more is explored.
    pub stopped: AtomicBool,
    /// By node, letter and choice.
    pub reactions: ByPrint<Reaction>,
    /// Every node that was met: there are few, and many states of them.
    nodes: ByPrint<Arc<Node>>,
}

impl RaftModel {
    pub fn new(bounds: Bounds) -> Self {
        RaftModel {
            renamings: Renamings::of(bounds.nodes as usize),
            bounds,
            cuts: Cuts::default(),
            forgets_spent: true,
            asks_at_once: true,
            ignores_denials: true,
            stopped: AtomicBool::new(false),
            reactions: ByPrint::default(),
            nodes: ByPrint::default(),
        }
    }

    /// A node after a step, in its normal form.
    pub fn settled(&self, mut node: Node) -> Arc<Node> {
        node.normalize();
        let print = node.print_under(self.renamings.none());
        self.nodes.entry(print).or_insert_with(|| Arc::new(node.settled(&self.renamings))).clone()
    }
}

impl Model for RaftModel {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let blank = State::blank(&self.bounds, &self.renamings);
        vec![self.bounds.ids().fold(blank, |state, id| self.awake(state, id))]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if !self.stopped.load(Ordering::Relaxed) {
            self.enumerate(state, actions);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        self.follow(state, action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all(&self.bounds)
    }
}
