//! Explorations that take seconds, and what must be true of the means. What is exhausted at length: `docs/TESTING.md`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use raft::consensus::Role;
use stateright::Model;

use crate::bounds::Bounds;
use crate::model::RaftModel;
use crate::projection::{Renamings, print};
use crate::report::{End, Limits, Report, explore};
use crate::state::State;

const LIMITS: Limits = Limits { depth: None, threads: 2, time: Duration::from_secs(300), states: 4_000_000 };

fn bounds() -> Bounds {
    Bounds {
        nodes: 3,
        terms: 2,
        entries: 0,
        crashes: 0,
        heartbeats: 0,
        slow_disks: false,
        pre_vote: false,
        check_quorum: true,
    }
}

/// Explores all of it; every invariant holds, and what should be possible is.
fn exhaust(bounds: &Bounds) -> Report {
    let report = explore(bounds, &LIMITS, |_| ());
    assert_eq!((report.end, report.missing.as_slice()), (End::Exhausted, [].as_slice()), "{bounds}\n{report}");
    report
}

#[test]
fn elections_of_two_terms_keep_every_invariant() {
    let report = exhaust(&bounds());
    assert_eq!(report.cuts, ["terms", "entries", "crashes", "heartbeats"]);
}

#[test]
fn commands_of_one_leader_keep_every_invariant() {
    exhaust(&Bounds { terms: 1, entries: 2, ..bounds() });
}

#[test]
fn crashes_under_slow_disks_keep_every_invariant() {
    exhaust(&Bounds { terms: 1, crashes: 1, slow_disks: true, ..bounds() });
}

#[test]
fn a_search_that_ends_early_says_so() {
    let at_depth = explore(&bounds(), &Limits { depth: Some(5), ..LIMITS }, |_| ());
    assert_eq!(at_depth.end, End::Depth);
    let of_states = explore(&bounds(), &Limits { states: 10, ..LIMITS }, |_| ());
    assert_eq!(of_states.end, End::States);
    assert!(of_states.to_string().starts_with("NOT EXHAUSTED"), "{of_states}");
}

/// Every way of so many steps, with its last state.
fn ways(model: &RaftModel, steps: usize) -> Vec<State> {
    let mut states = model.init_states();
    for _ in 0..steps {
        states = states.iter().flat_map(|state| model.next_states(state)).collect();
    }
    states
}

#[test]
fn nodes_are_interchangeable() {
    let model = RaftModel::new(bounds());
    let after_one = ways(&model, 1);
    assert_eq!(after_one.len(), 3, "each of three clocks may fire first");
    assert!(after_one.iter().all(|state| *state == after_one[0]), "which of them does not matter");
    let after_two = ways(&model, 2);
    assert!(after_two.iter().any(|state| *state != after_two[0]), "what happens does");
}

/// What all states are that can be come to, seen like this, and how many states they are. None may be broken.
fn explored(model: &RaftModel, face: impl Fn(&State) -> u64) -> (HashSet<u64>, usize) {
    let mut open = model.init_states();
    let (mut faces, mut met) = (HashSet::new(), HashSet::new());
    while let Some(state) = open.pop() {
        assert!(state.broken.is_none(), "{}", model.bounds);
        faces.insert(face(&state));
        open.extend(model.next_states(&state).into_iter().filter(|next| met.insert(next.print())));
    }
    (faces, met.len())
}

/// Everything that nodes can be and have done, whatever is on its way.
fn faces(bounds: Bounds, forgets_spent: bool) -> (HashSet<u64>, usize) {
    let mut model = RaftModel::new(bounds);
    model.forgets_spent = forgets_spent;
    explored(&model, |state| state.face(&model.renamings))
}

/// Of each node what pre-votes are there to protect: its term and vote, in memory and on the disk, its log, what is committed, and
/// whether it campaigns or leads.
fn protocol(renamings: &Renamings, state: &State) -> u64 {
    let under = renamings.prints(|renaming| {
        let nodes = state.nodes.iter().map(|node| {
            let (server, disk) = (&node.server, renaming.hard_state(node.disk.hard_state));
            let role = [Role::Candidate, Role::Leader].iter().position(|role| *role == server.role());
            print((renaming.name(node.id()), server.term(), disk, &node.disk.log, &node.log, server.commit(), role))
        });
        nodes.fold(0, u64::wrapping_add)
    });
    under.iter().copied().min().unwrap_or_default()
}

/// Whether a pre-vote is asked for at once or some time, and whether one that is denied counts, makes no difference to what is
/// promised, written and committed.
#[test]
fn pre_votes_at_once_and_without_denials_make_no_difference() {
    let bounds = Bounds { pre_vote: true, ..bounds() };
    let all = [
        Bounds { terms: 1, ..bounds.clone() },
        Bounds { nodes: 2, ..bounds.clone() },
        Bounds { nodes: 2, entries: 1, crashes: 1, ..bounds.clone() },
        Bounds { nodes: 2, terms: 3, ..bounds },
    ];
    for bounds in all {
        let protocols = |asks_at_once, ignores_denials| {
            let mut model = RaftModel::new(bounds.clone());
            (model.asks_at_once, model.ignores_denials) = (asks_at_once, ignores_denials);
            explored(&model, |state| protocol(&model.renamings, state))
        };
        let (reduced, few) = protocols(true, true);
        for (asks_at_once, ignores_denials) in [(false, true), (true, false), (false, false)] {
            let (all, many) = protocols(asks_at_once, ignores_denials);
            let name = format!("{bounds}; at once: {asks_at_once}, denials are ignored: {ignores_denials}");
            println!("{name}: {few} states instead of {many}, {} protocol states of {}", reduced.len(), all.len());
            assert_eq!((reduced.difference(&all).count(), all.difference(&reduced).count()), (0, 0), "{name}");
        }
    }
}

#[test]
fn letters_that_are_spent_make_no_difference() {
    let two = Bounds { nodes: 2, entries: 1, crashes: 1, ..bounds() };
    let all = [
        Bounds { terms: 1, entries: 1, crashes: 1, ..bounds() },
        Bounds { heartbeats: 1, ..two.clone() },
        Bounds { pre_vote: true, ..two },
    ];
    for bounds in all {
        let name = bounds.to_string();
        let ((with, many), (without, fewer)) = (faces(bounds.clone(), false), faces(bounds, true));
        assert!(fewer <= many, "{name}: {fewer} states instead of {many}");
        assert_eq!(with.len(), without.len(), "{name}");
        assert!(with == without, "{name}");
        println!("{name}: {fewer} states instead of {many}, {} but for letters", with.len());
    }
}

#[test]
fn what_was_said_stays_said_and_nothing_is_waited_for() {
    let model = RaftModel::new(bounds());
    for before in ways(&model, 3) {
        let mut actions = Vec::new();
        model.actions(&before, &mut actions);
        for action in actions {
            let after = model.next_state(&before, action.clone()).expect("an action that is offered changes something");
            assert!(after != before, "and leads to another state");
            assert!(after.nodes.iter().zip(&before.nodes).filter(|(new, old)| !Arc::ptr_eq(new, old)).count() <= 1);
        }
    }
}
