//! Cuts a failing scenario down: fewer faults first (Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input",
//! 2002), then fewer of everything else, for as long as it still fails.
//!
//! A scenario decides what is in its file, and its seed everything else: delays, what clients ask, what a power loss leaves. With
//! anything less in it, everything else falls out differently, too, and the failure may be missed by luck. So what is left is
//! tried with more and more seeds.

use super::scenario::{Fault, FaultKind, Scenario, Target};

/// Most seeds that are tried with what is left.
const MOST_SEEDS: u64 = 16;

/// What a scenario was cut down to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shrunk {
    /// The smallest one that failed.
    pub scenario: Scenario,
    /// How many were run.
    pub runs: u64,
    /// Nothing more can be left out; otherwise, time was up.
    pub is_minimal: bool,
}

/// Cuts a scenario down that fails. `fails`: whether this one fails, too, in the same way. `may_go_on`: whether there is time for
/// another run.
pub fn shrink(
    scenario: &Scenario,
    fails: &mut dyn FnMut(&Scenario) -> bool,
    may_go_on: &mut dyn FnMut() -> bool,
) -> Shrunk {
    let best = scenario.clone();
    let mut shrinking = Shrinking { best, fails, may_go_on, seeds: 1, runs: 0, is_over: false };
    while shrinking.seeds <= MOST_SEEDS {
        let before = shrinking.best.clone();
        shrinking.round();
        if shrinking.is_over {
            break;
        }
        if shrinking.best == before {
            shrinking.seeds *= 4;
        }
    }
    let Shrinking { best, runs, is_over, .. } = shrinking;
    Shrunk { scenario: best, runs, is_minimal: !is_over }
}

struct Shrinking<'a> {
    best: Scenario,
    fails: &'a mut dyn FnMut(&Scenario) -> bool,
    may_go_on: &'a mut dyn FnMut() -> bool,
    /// Seeds to try with each.
    seeds: u64,
    runs: u64,
    is_over: bool,
}

impl Shrinking<'_> {
    /// Tries to leave out each thing once.
    fn round(&mut self) {
        self.fewer_faults();
        // Early: what comes after takes the less time for it.
        self.less_time();
        self.attempt(|scenario| scenario.network.lost = 0);
        self.attempt(|scenario| scenario.network.twice = 0);
        self.attempt(|scenario| scenario.network.overtaken = 0);
        self.attempt(|scenario| scenario.disks.garbles = false);
        self.attempt(|scenario| scenario.settings.pre_vote = true);
        self.attempt(|scenario| scenario.settings.check_quorum = true);
        self.lower(0, |scenario| &mut scenario.clients);
        self.attempt(|scenario| scenario.load.sessions = 0);
        self.attempt(|scenario| scenario.load.queue = 0);
        self.attempt(|scenario| scenario.load.numbers = 0);
        self.lower(1, |scenario| &mut scenario.load.keys);
        self.lower(1, |scenario| &mut scenario.load.depth);
        self.lower(1, |scenario| &mut scenario.load.value_bytes);
        self.fewer_nodes();
    }

    /// Runs the best with this change, under some seeds, and keeps it if it fails.
    fn attempt(&mut self, change: impl Fn(&mut Scenario)) -> bool {
        let mut changed = self.best.clone();
        change(&mut changed);
        if changed == self.best {
            return false;
        }
        let first = changed.seed;
        for seed in (first..).take(self.seeds as usize) {
            self.is_over |= !(self.may_go_on)();
            if self.is_over {
                return false;
            }
            changed.seed = seed;
            self.runs += 1;
            if (self.fails)(&changed) {
                self.best = changed;
                return true;
            }
        }
        false
    }

    /// Leaves out halves, then quarters, and so on down to single faults.
    fn fewer_faults(&mut self) {
        let mut size = self.best.faults.len();
        while size > 0 && !self.is_over {
            let mut start = 0;
            while start < self.best.faults.len() {
                let end = (start + size).min(self.best.faults.len());
                if !self.attempt(|scenario| drop(scenario.faults.drain(start..end))) {
                    start = end;
                }
            }
            size /= 2;
        }
        // Links that are cut, one after another, from behind.
        for number in 0..self.best.faults.len() {
            for link in (0..links(&mut self.best.faults[number]).map_or(0, |links| links.len())).rev() {
                self.attempt(|scenario| {
                    if let Some(links) = links(&mut scenario.faults[number]).filter(|links| links.len() > 1) {
                        links.remove(link);
                    }
                });
            }
        }
    }

    /// The least that still fails, or nearly so.
    fn lower(&mut self, least: u64, number: impl Fn(&mut Scenario) -> &mut u64) {
        let mut low = least;
        let mut high = *number(&mut self.best);
        // The least first: more often than not it will do.
        if high <= low || self.attempt(|scenario| *number(scenario) = low) {
            return;
        }
        while low + 1 < high && !self.is_over {
            let middle = low + (high - low) / 2;
            match self.attempt(|scenario| *number(scenario) = middle) {
                true => high = middle,
                false => low = middle,
            }
        }
    }

    fn fewer_nodes(&mut self) {
        for nodes in 1..self.best.nodes {
            if self.attempt(|scenario| scenario.keep_nodes(nodes)) {
                return;
            }
        }
    }

    /// Ends earlier, and lets everything happen earlier.
    fn less_time(&mut self) {
        let last_ms = |scenario: &Scenario| scenario.faults.last().map_or(0, |fault| fault.at_ms);
        self.attempt(|scenario| scenario.time_ms = scenario.time_ms.min(last_ms(scenario) + 1));
        let earlier = |times: u64, of: u64| {
            move |scenario: &mut Scenario| {
                let less = |ms: &mut u64| *ms = *ms * times / of;
                less(&mut scenario.time_ms);
                scenario.faults.iter_mut().for_each(|fault| less(&mut fault.at_ms));
            }
        };
        while self.attempt(earlier(1, 2)) || self.attempt(earlier(3, 4)) {}
        while self.attempt(|scenario| scenario.time_ms = scenario.time_ms * 3 / 4) {}
    }
}

/// The links that it is about.
fn links(fault: &mut Fault) -> Option<&mut Vec<(u64, u64)>> {
    match &mut fault.kind {
        FaultKind::Cut { links, .. } | FaultKind::Clog { links, .. } => Some(links),
        _ => None,
    }
}

impl Scenario {
    /// Leaves out nodes, and whatever befalls them.
    fn keep_nodes(&mut self, nodes: u64) {
        self.nodes = nodes;
        self.faults.iter_mut().filter_map(links).for_each(|links| {
            links.retain(|(from, to)| from.max(to) <= &nodes);
        });
        self.faults.retain_mut(|fault| match fault.kind.target() {
            Some(Target::Node(number)) => number <= nodes,
            _ => links(fault).is_none_or(|links| !links.is_empty()),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::scenario::{Profile, Wish};
    use super::*;

    /// A scenario of five nodes with many faults, two of which are these.
    fn failing() -> (Scenario, [Fault; 2]) {
        let wish = Wish { profile: Profile::Swarm, nodes: Some(5), time_ms: Some(60_000) };
        let mut scenarios = (0..).map(|seed| Scenario::draw(seed, &wish));
        let mut scenario = scenarios.find(|scenario| scenario.faults.len() > 20).unwrap();
        let kill = FaultKind::Kill { target: Target::Node(2), down_ms: 77 };
        let cut = FaultKind::Cut { links: vec![(1, 2), (3, 1), (2, 1)], for_ms: 77 };
        let needed = [Fault { at_ms: 20_000, kind: kill }, Fault { at_ms: 40_000, kind: cut }];
        scenario.faults.extend(needed.iter().cloned());
        scenario.faults.sort_by_key(|fault| fault.at_ms);
        (scenario, needed)
    }

    #[test]
    fn what_is_not_needed_is_left_out() {
        let (scenario, [kill, _]) = failing();
        let mut fails = |scenario: &Scenario| {
            let has_kill = scenario.faults.iter().any(|fault| fault.kind == kill.kind);
            let cuts = |fault: &Fault| matches!(&fault.kind, FaultKind::Cut { links, .. } if links.contains(&(3, 1)));
            has_kill && scenario.faults.iter().any(cuts) && scenario.nodes >= 3 && scenario.load.keys >= 2
        };
        let shrunk = shrink(&scenario, &mut fails, &mut || true);
        let Scenario { nodes, clients, time_ms, network, load, faults, .. } = shrunk.scenario;
        assert!(shrunk.is_minimal);
        assert_eq!((nodes, clients, load.keys.min(3), load.depth, load.value_bytes), (3, 0, 2, 1, 1));
        assert_eq!((network.lost, network.twice, network.overtaken), (0, 0, 0));
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(
            faults.iter().any(|fault| matches!(&fault.kind, FaultKind::Cut { links, .. } if links[..] == [(3, 1)]))
        );
        assert!(time_ms < 10, "{time_ms}");
        assert!(shrunk.runs < 1_000, "{}", shrunk.runs);
    }

    #[test]
    fn a_failure_that_takes_luck_is_found_again_under_another_seed() {
        let (scenario, needed) = failing();
        let mut fails = |scenario: &Scenario| {
            let lucky = scenario.faults.len() > 10 || scenario.seed.is_multiple_of(7);
            lucky && scenario.faults.iter().any(|fault| fault.kind == needed[0].kind)
        };
        let shrunk = shrink(&scenario, &mut fails, &mut || true);
        let kinds: Vec<FaultKind> = shrunk.scenario.faults.into_iter().map(|fault| fault.kind).collect();
        assert_eq!(kinds, [needed[0].kind.clone()]);
    }

    #[test]
    fn when_time_is_up_the_best_so_far_is_kept() {
        let (scenario, _) = failing();
        let count = scenario.faults.len();
        let mut left = 3;
        let mut may_go_on = || {
            left -= 1;
            left >= 0
        };
        let shrunk = shrink(&scenario, &mut |scenario| scenario.faults.len() >= 2, &mut may_go_on);
        assert!(!shrunk.is_minimal);
        assert_eq!(shrunk.runs, 3);
        assert!((2..count).contains(&shrunk.scenario.faults.len()));
    }

    #[test]
    fn what_always_fails_ends_with_nothing() {
        let (scenario, _) = failing();
        let shrunk = shrink(&scenario, &mut |_| true, &mut || true);
        let Scenario { nodes, clients, time_ms, faults, .. } = shrunk.scenario;
        assert_eq!((nodes, clients, time_ms, faults.len()), (1, 0, 0, 0));
    }
}
