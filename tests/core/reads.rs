//! How many answers confirm a read, at every size (T67, B62).

use raft::consensus::{Event, NodeId};

use crate::cluster::Cluster;

#[test]
fn a_read_needs_a_majority_at_every_size() {
    for voters in 1..=7 {
        let mut cluster = Cluster::new(voters, 2, 1, |_| {});
        let leader = NodeId(1);
        cluster.now = cluster.server(leader).election_deadline().expect("it does not lead yet");
        cluster.event(leader, Event::Tick);
        cluster.stabilize();
        cluster.read(leader, &["read".to_owned()]);
        // Learners first: they do not help.
        for learner in [voters + 1, voters + 2].map(NodeId) {
            cluster.deliver(leader, learner);
            cluster.deliver(learner, leader);
        }
        for answers in 1..=voters {
            if answers > 1 {
                cluster.deliver(leader, NodeId(answers));
                cluster.deliver(NodeId(answers), leader);
            }
            let answered = cluster.answers.contains_key("read");
            assert_eq!(answered, 2 * answers > voters, "{answers} of {voters}");
        }
    }
}
