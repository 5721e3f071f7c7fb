//! Explores everything that a small cluster of raft's servers can do: `cargo xtask model`.

mod actions;
mod bounds;
mod projection;
mod properties;
mod state;
mod step;

use stateright::{Checker, Model, Property};

use actions::{Action, Reaction};
use dashmap::DashMap;
use state::Node;
use std::sync::Arc;
use bounds::{Bounds, Cuts};
use projection::Renamings;
use state::State;
use std::sync::atomic::{AtomicBool, Ordering};

/// A cluster within bounds.
pub struct RaftModel {
    bounds: Bounds,
    renamings: Renamings,
    cuts: Cuts,
    /// Every node that was met, by its print.
    nodes: DashMap<u64, Arc<Node>>,
    /// By node, letter and choice.
    reactions: DashMap<(u64, u64, bool), Reaction>,
    /// Enough: nothing more is explored.
    stopped: AtomicBool,
}

impl RaftModel {
    fn settled(&self, mut node: Node) -> Arc<Node> {
        node.normalize();
        let print = node.print_under(self.renamings.none());
        self.nodes.entry(print).or_insert_with(|| Arc::new(node.settled(&self.renamings))).clone()
    }
}

impl Model for RaftModel {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::blank(&self.bounds, &self.renamings)]
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
        properties::all(self)
    }
}

fn main() {
    let arg = |n: usize, d: u64| std::env::args().nth(n).map_or(d, |a| a.parse().unwrap());
    let bounds = Bounds { nodes: arg(1,3), terms: arg(2,2), entries: arg(3,0) as u32, crashes: arg(4,0) as u32, heartbeats: arg(9,0) as u32, slow_disks: arg(5,0)==1, pre_vote: arg(6,0)==1, check_quorum: arg(7,1)==1 };
    let began = std::time::Instant::now();
    let model = RaftModel { renamings: Renamings::of(bounds.nodes as usize), bounds, cuts: Cuts::default(), nodes: DashMap::new(), reactions: DashMap::new(), stopped: AtomicBool::new(false) };
    let mut checker = model.checker().threads(2).finish_when(stateright::HasDiscoveries::AnyFailures).spawn_bfs();
    let handles = checker.handles();
    while !handles.iter().all(|h| h.is_finished()) {
        std::thread::sleep(std::time::Duration::from_millis(500));
        if began.elapsed().as_secs() % 5 == 0 { eprintln!("{} {} {}", checker.state_count(), checker.unique_state_count(), checker.max_depth()); std::thread::sleep(std::time::Duration::from_millis(500)); }
        if began.elapsed().as_secs() > arg(8, 60) { checker.model().stopped.store(true, Ordering::Relaxed); }
    }
    println!("nodes {} reactions {}", checker.model().nodes.len(), checker.model().reactions.len());
    println!("{:?} total {} unique {} depth {}", began.elapsed(), checker.state_count(), checker.unique_state_count(), checker.max_depth());
    checker.model().stopped.store(false, Ordering::Relaxed);
    for (name, path) in checker.discoveries() {
        println!("{name}: {}", path.clone().into_vec().len());
        if let Some(b) = &path.last_state().broken { println!("{b:?}"); for (_,a) in path.into_vec() { if let Some(a) = a { match a { Action::Deliver{to,letter,late} => println!("{} from {} {late} {:?}", to, letter.from, letter.message), Action::ElectionTimeout(i)=>println!("timeout {i}"), Action::Restart(i)=>println!("restart {i}"),Action::Propose(i)=>println!("propose {i}"),Action::Persisted(i)=>println!("persist {i}"),Action::Heartbeat(i)=>println!("hb {i}")} } } }
    }
}
