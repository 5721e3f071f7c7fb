//! Majorities: what a set of voters has agreed on, joint memberships included (Raft thesis §4.3).

use std::collections::{BTreeMap, BTreeSet};

use super::membership::Membership;
use super::types::NodeId;
use crate::mutants::{Mutant, mutant};

/// How an election stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoteResult {
    /// A majority of every set said yes.
    Won,
    /// Some set can no longer reach a majority.
    Lost,
    /// Neither yet.
    Pending,
}

/// How many voters a cluster usually has at most.
const FEW: usize = 8;

/// The highest value that a majority of the voters has reached, in both sets if the membership is joint. With match
/// indexes that is the highest index that may commit; with times of last contact, when a quorum was last heard; with
/// read rounds, the latest that a quorum confirmed. Without voters nothing is ever agreed: `T::default()`.
pub fn agreed<T: Ord + Copy + Default>(membership: &Membership, reached: impl Fn(NodeId) -> T) -> T {
    let by_voters = agreed_in(&membership.voters, &reached);
    match membership.outgoing.is_empty() {
        true => by_voters,
        false => by_voters.min(agreed_in(&membership.outgoing, &reached)),
    }
}

fn agreed_in<T: Ord + Copy + Default>(voters: &BTreeSet<NodeId>, reached: &impl Fn(NodeId) -> T) -> T {
    // The usual number of voters needs no allocation.
    let (mut few, mut many) = ([T::default(); FEW], Vec::new());
    let values = few.get_mut(..voters.len()).unwrap_or_else(|| {
        many.resize(voters.len(), T::default());
        &mut many
    });
    values.iter_mut().zip(voters).for_each(|(value, id)| *value = reached(*id));
    values.sort_unstable_by(|a, b| b.cmp(a));
    // Sorted from high to low, the last member of the smallest majority: of 5 the third, of 4 the third too.
    let last = if mutant(Mutant::M4a) { voters.len().saturating_sub(1) / 2 } else { voters.len() / 2 };
    values.get(last).copied().unwrap_or_default()
}

/// How the election stands with these votes. Votes of nodes that are not voters do not count.
pub fn vote_result(membership: &Membership, votes: &BTreeMap<NodeId, bool>) -> VoteResult {
    let in_voters = vote_result_in(&membership.voters, votes);
    if membership.outgoing.is_empty() {
        return in_voters;
    }
    match (in_voters, vote_result_in(&membership.outgoing, votes)) {
        (VoteResult::Won, VoteResult::Won) => VoteResult::Won,
        (VoteResult::Lost, _) | (_, VoteResult::Lost) => VoteResult::Lost,
        _ => VoteResult::Pending,
    }
}

fn vote_result_in(voters: &BTreeSet<NodeId>, votes: &BTreeMap<NodeId, bool>) -> VoteResult {
    let counts = |id: &NodeId| voters.contains(id) || mutant(Mutant::M28);
    let count = |vote| votes.iter().filter(|(id, given)| counts(id) && **given == vote).count();
    let majority = if mutant(Mutant::M4b) { voters.len().div_ceil(2) } else { voters.len() / 2 + 1 };
    if count(true) >= majority {
        VoteResult::Won
    } else if voters.len().saturating_sub(count(false)) < majority {
        VoteResult::Lost
    } else {
        VoteResult::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[u64]) -> BTreeSet<NodeId> {
        ids.iter().map(|&id| NodeId(id)).collect()
    }

    fn joint(voters: &[u64], outgoing: &[u64]) -> Membership {
        Membership { voters: ids(voters), outgoing: ids(outgoing), learners: ids(&[]) }
    }

    #[test]
    fn a_majority_is_more_than_half_at_every_size() {
        for size in 1..=9u64 {
            let voters: Vec<u64> = (1..=size).collect();
            let membership = joint(&voters, &[]);
            for reached in 0..=size {
                let agreed = agreed(&membership, |id| if id.0 <= reached { 7 } else { 0 });
                assert_eq!(agreed == 7, reached > size / 2, "{reached} of {size}");
            }
        }
    }

    #[test]
    fn a_joint_membership_needs_both_majorities() {
        let membership = joint(&[1, 2, 3], &[3, 4, 5]);
        let at = |values: [u64; 5]| agreed(&membership, |id| values[id.0 as usize - 1]);
        assert_eq!(at([9, 9, 9, 0, 0]), 0, "the outgoing set has only node 3");
        assert_eq!(at([9, 9, 0, 9, 9]), 9, "each majority without node 3");
        assert_eq!(at([9, 0, 8, 7, 0]), 7, "the lower of 8 and 7");
    }

    #[test]
    fn votes_of_strangers_and_learners_do_not_count() {
        let mut membership = joint(&[1, 2, 3], &[]);
        membership.learners = ids(&[4]);
        let votes = |yes: &[u64], no: &[u64]| {
            yes.iter().map(|&id| (NodeId(id), true)).chain(no.iter().map(|&id| (NodeId(id), false))).collect()
        };
        assert_eq!(vote_result(&membership, &votes(&[1, 4, 9], &[])), VoteResult::Pending);
        assert_eq!(vote_result(&membership, &votes(&[1, 2], &[])), VoteResult::Won);
        assert_eq!(vote_result(&membership, &votes(&[1], &[2, 4])), VoteResult::Pending);
        assert_eq!(vote_result(&membership, &votes(&[1], &[2, 3])), VoteResult::Lost);
    }

    #[test]
    fn half_of_an_even_cluster_is_no_majority_and_half_refusing_loses() {
        let membership = joint(&[1, 2, 3, 4], &[]);
        let votes = |list: &[(u64, bool)]| list.iter().map(|&(id, vote)| (NodeId(id), vote)).collect();
        assert_eq!(vote_result(&membership, &votes(&[(1, true), (2, true)])), VoteResult::Pending);
        assert_eq!(vote_result(&membership, &votes(&[(1, false), (2, false)])), VoteResult::Lost);
    }

    #[test]
    fn nobody_agrees_to_nothing() {
        assert_eq!(agreed(&Membership::default(), |_| 5), 0);
        assert_eq!(vote_result(&Membership::default(), &BTreeMap::new()), VoteResult::Lost);
    }
}
