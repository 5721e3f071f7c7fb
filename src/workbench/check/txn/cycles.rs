//! Cycles in the graph: what they are called, and the shortest.

use std::collections::VecDeque;
use std::iter;

use super::graph::{Edge, Graph, Why};

/// Most edges that searches for shortest cycles may look at, all together.
const PATIENCE: usize = 20_000_000;

/// Transactions of which each comes before the next, and the last before the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cycle {
    pub name: &'static str,
    pub steps: Vec<Step>,
}

/// From one transaction of a cycle to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub from: u32,
    pub to: u32,
    pub why: Why,
    /// The version that it is about, if it is about one.
    pub version: u32,
    /// The order of the versions is known only because of time.
    pub by_time: bool,
}

/// The names, the worst first. A cycle has the first of which it has all it needs: without reads that were overtaken, with
/// one, or with more.
const DEPENDENCIES: [(u8, [&str; 3]); 4] = [
    (Why::WriteWrite as u8, ["G0", "G0-process", "G0-realtime"]),
    (FLOW, ["G1c", "G1c-process", "G1c-realtime"]),
    // Besides the one read that was overtaken.
    (FLOW | Why::OnwardByTime as u8, ["G-single", "G-single-process", "G-single-realtime"]),
    (FLOW | Why::OnwardByTime as u8 | Why::ReadWrite as u8, ["G2", "G2-process", "G2-realtime"]),
];
/// The last of them, which all cycles could be called.
const LEAST: &str = "G2-realtime";
/// No cycle has fewer steps.
const SHORTEST: u32 = 2;
/// So many edges are looked at to guess where to search first.
const NEIGHBOURS: usize = 16;
/// Each knows of the one before.
const FLOW: u8 = Why::WriteWrite as u8 | Why::WriteRead as u8;
/// What else may be part of a cycle, in the order of the names.
const TIMES: [u8; 3] = [0, Why::Process as u8, Why::Process as u8 | Why::RealTime as u8];

/// Of each part of the graph in which everybody comes before everybody the shortest cycle that was found, and the shortest of
/// the worst name if that is another one.
pub fn find(graph: &Graph) -> Vec<Cycle> {
    let mut patience = PATIENCE;
    let components = components(graph, u8::MAX);
    parts(&components).into_iter().flat_map(|nodes| Part::new(graph, nodes).cycles(&mut patience)).collect()
}

/// Nodes by component, where there is more than one.
fn parts(components: &[u32]) -> Vec<Vec<u32>> {
    let mut parts = vec![Vec::new(); components.iter().max().map_or(0, |last| *last as usize + 1)];
    for (node, component) in (0..).zip(components) {
        parts[*component as usize].push(node);
    }
    parts.retain(|nodes: &Vec<u32>| nodes.len() > 1);
    parts
}

/// A part of a graph in which everybody comes before everybody, with numbers of its own.
struct Part {
    graph: Graph,
    /// The numbers in the whole graph.
    nodes: Vec<u32>,
}

/// Edges with the nodes that they lead away from.
type Path = Vec<(u32, Edge)>;

impl Part {
    /// The nodes are in order, so transactions come first here, too.
    fn new(whole: &Graph, nodes: Vec<u32>) -> Self {
        let mut edges = Vec::new();
        for (from, node) in (0..).zip(&nodes) {
            for edge in whole.edges(*node) {
                if let Ok(to) = nodes.binary_search(&edge.to) {
                    edges.push((from, Edge { to: to as u32, ..*edge }));
                }
            }
        }
        let transactions = nodes.partition_point(|node| whole.is_transaction(*node));
        let times = nodes[..transactions].iter().map(|node| whole.times[*node as usize]).collect();
        Part { graph: Graph::from_edges(times, nodes.len(), edges), nodes }
    }

    fn cycles(&self, patience: &mut usize) -> Vec<Cycle> {
        let Some(any) = self.shortest(u8::MAX, u32::MAX, patience) else { return Vec::new() };
        let length = self.steps(&any).len() as u32;
        let shortest =
            self.worst(length + 1, patience).unwrap_or_else(|| Cycle { name: LEAST, steps: self.steps(&any) });
        let worst = self.worst(u32::MAX, patience).filter(|worst| worst.name != shortest.name);
        iter::once(shortest).chain(worst).collect()
    }

    /// The shortest cycle of the worst name, if it has fewer steps than this.
    fn worst(&self, limit: u32, patience: &mut usize) -> Option<Cycle> {
        for (place, times) in TIMES.into_iter().enumerate() {
            for (dependencies, names) in DEPENDENCIES {
                let name = names[place];
                let by_time = if times & Why::RealTime as u8 == 0 { Why::OnwardByTime as u8 } else { 0 };
                let allowed = (Why::Onward as u8 | dependencies | times) & !by_time;
                let path = if name.starts_with("G-single") {
                    self.shortest_with_one_overtaken(allowed, limit, patience)
                } else {
                    self.shortest(allowed, limit, patience)
                };
                if let Some(path) = path {
                    return Some(Cycle { name, steps: self.steps(&path) });
                }
            }
        }
        None
    }

    /// The shortest cycle of these edges, if it has fewer steps than this.
    fn shortest(&self, allowed: u8, limit: u32, patience: &mut usize) -> Option<Path> {
        let components = components(&self.graph, allowed);
        let mut search = Search::new(&self.graph, &components, allowed, limit);
        for nodes in parts(&components) {
            let transactions = nodes.into_iter().filter(|node| self.graph.is_transaction(*node));
            // Where something is against the order of time, the way back is short.
            let (first, then): (Vec<u32>, Vec<u32>) = transactions.partition(|node| self.leads_back(*node));
            for node in first.into_iter().chain(then) {
                search.path(node, node, patience);
                if search.limit == SHORTEST {
                    return search.best;
                }
            }
        }
        search.best
    }

    /// Whether a transaction comes before one that had ended when it began, as far as that is quick to see.
    fn leads_back(&self, from: u32) -> bool {
        let (began, _) = self.graph.times[from as usize];
        let ended = |to: u32| self.graph.times.get(to as usize).is_some_and(|(_, ended)| *ended < began);
        self.graph.edges(from).iter().filter(|edge| edge.why != Why::RealTime).any(|edge| {
            ended(edge.to)
                || self.graph.edges(edge.to).iter().take(NEIGHBOURS).any(|edge| edge.why.is_onward() && ended(edge.to))
        })
    }

    /// The shortest cycle of these edges and one read that was overtaken, if it has fewer steps than this.
    fn shortest_with_one_overtaken(&self, allowed: u8, limit: u32, patience: &mut usize) -> Option<Path> {
        let components = components(&self.graph, allowed | Why::ReadWrite as u8);
        let mut search = Search::new(&self.graph, &components, allowed, limit.saturating_sub(1));
        let mut shortest = None;
        let (first, then): (Vec<u32>, Vec<u32>) =
            (0..self.graph.transactions()).partition(|node| self.leads_back(*node));
        for from in first.into_iter().chain(then) {
            // There need not be any: without patience it goes by the next name.
            if *patience == 0 || search.limit == SHORTEST - 1 {
                break;
            }
            for edge in self.graph.edges(from).iter().filter(|edge| edge.why == Why::ReadWrite) {
                if components[from as usize] == components[edge.to as usize] && search.path(edge.to, from, patience) {
                    shortest = Some((from, *edge));
                }
            }
        }
        Some([vec![shortest?], search.best?].concat())
    }

    /// The edges of a cycle, which begins with a transaction, as steps between transactions.
    fn steps(&self, path: &Path) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        for (from, edge) in path {
            let to = self.nodes[edge.to as usize];
            match (edge.why, steps.last_mut()) {
                (Why::Onward | Why::OnwardByTime, Some(step)) => {
                    step.to = to;
                    step.by_time |= edge.why == Why::OnwardByTime;
                }
                _ => {
                    let from = self.nodes[*from as usize];
                    steps.push(Step { from, to, why: edge.why, version: edge.version, by_time: false });
                }
            }
        }
        steps
    }
}

/// By node: the strongly connected component that it is in, by edges that are allowed. It is the algorithm of Tarjan (1972),
/// with a stack of its own.
fn components(graph: &Graph, allowed: u8) -> Vec<u32> {
    const NEW: u32 = u32::MAX;
    let nodes = graph.len();
    let (mut index, mut low, mut component) = (vec![NEW; nodes], vec![0; nodes], vec![NEW; nodes]);
    let (mut count, mut components) = (0, 0);
    let mut open: Vec<u32> = Vec::new();
    // The nodes that are being looked at, each with the number of its edges that are done.
    let mut path: Vec<(u32, usize)> = Vec::new();
    for root in 0..nodes as u32 {
        if index[root as usize] != NEW {
            continue;
        }
        path.push((root, 0));
        while let Some((node, done)) = path.last_mut() {
            let (node, at) = (*node, *node as usize);
            if *done == 0 && index[at] == NEW {
                (index[at], low[at]) = (count, count);
                count += 1;
                open.push(node);
            }
            if let Some(edge) = graph.edges(node).get(*done) {
                *done += 1;
                let to = edge.to as usize;
                if edge.why as u8 & allowed == 0 {
                } else if index[to] == NEW {
                    path.push((edge.to, 0));
                } else if component[to] == NEW {
                    low[at] = low[at].min(index[to]);
                }
                continue;
            }
            path.pop();
            if let Some((before, _)) = path.last() {
                low[*before as usize] = low[*before as usize].min(low[at]);
            }
            if low[at] == index[at] {
                while let Some(member) = open.pop() {
                    component[member as usize] = components;
                    if member == node {
                        break;
                    }
                }
                components += 1;
            }
        }
    }
    component
}

/// Searches for short paths, one after the other. A step from a node between costs nothing.
struct Search<'g> {
    graph: &'g Graph,
    components: &'g [u32],
    allowed: u8,
    /// By node, in the search of this number: how far it is, and from where by which edge.
    reached: Vec<(u32, u32, u32, Option<Edge>)>,
    number: u32,
    best: Option<Path>,
    /// Its length, or what it must be shorter than.
    limit: u32,
}

impl<'g> Search<'g> {
    fn new(graph: &'g Graph, components: &'g [u32], allowed: u8, limit: u32) -> Self {
        // One more, for the end of the path: where it begins may be the same.
        let reached = vec![(0, 0, 0, None); graph.len() + 1];
        Search { graph, components, allowed, reached, number: 0, best: None, limit }
    }

    /// Whether there is a path shorter than all before. If so, it is the best one now.
    fn path(&mut self, from: u32, to: u32, patience: &mut usize) -> bool {
        self.number += 1;
        let end = self.graph.len() as u32;
        let mut queue = VecDeque::from([(from, 0)]);
        self.reached[from as usize] = (self.number, 0, from, None);
        while let Some((node, far)) = queue.pop_front() {
            if far >= self.limit {
                return false;
            }
            if node == end {
                self.best = Some(self.trace(from));
                self.limit = far;
                return true;
            }
            if far > self.reached[node as usize].1 {
                continue;
            }
            for edge in self.graph.edges(node) {
                *patience = patience.saturating_sub(1);
                let is_inside = self.components[edge.to as usize] == self.components[from as usize];
                if edge.why as u8 & self.allowed == 0 || !is_inside {
                    continue;
                }
                let is_free = edge.why.is_onward();
                let (next, far) = (if edge.to == to { end } else { edge.to }, far + u32::from(!is_free));
                let known = &mut self.reached[next as usize];
                if known.0 == self.number && known.1 <= far {
                    continue;
                }
                *known = (self.number, far, node, Some(*edge));
                if is_free { queue.push_front((next, far)) } else { queue.push_back((next, far)) }
            }
            // The first cycle that is found is better than none; where there is a limit, one is known.
            if *patience == 0 && self.limit < u32::MAX {
                return false;
            }
        }
        false
    }

    fn trace(&self, from: u32) -> Path {
        let mut path = Vec::new();
        let mut node = self.graph.len() as u32;
        while let (_, _, before, Some(edge)) = self.reached[node as usize] {
            path.push((before, edge));
            node = before;
            if node == from {
                break;
            }
        }
        path.reverse();
        path
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn patience_ends_each_search_but_the_one_for_any_cycle() {
        let edges = (0..3).map(|from| (from, Edge { to: (from + 1) % 3, why: Why::WriteWrite, version: 0 }));
        let times = vec![(Duration::ZERO, Duration::MAX); 3];
        let graph = Graph::from_edges(times, 3, edges.collect());
        let finds = |limit, mut patience| Search::new(&graph, &[0; 3], u8::MAX, limit).path(0, 0, &mut patience);
        assert!(finds(4, 100), "there is one of three steps");
        assert!(!finds(3, 100), "and no shorter one");
        assert!(!finds(4, 0), "whoever has another one need not go on");
        assert!(finds(u32::MAX, 0), "and who has none does");
        assert_eq!(find(&graph).len(), 1);
    }
}
