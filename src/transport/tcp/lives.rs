//! Remembers which life of each peer was seen, so that an earlier one is not taken for it.

use std::collections::BTreeMap;

use crate::consensus::NodeId;
use crate::runtime::Life;

/// The latest life of each peer that was seen since this process started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerLives {
    seen: BTreeMap<NodeId, Life>,
}

impl PeerLives {
    /// Whether this life of the peer may talk to us; from now on, no older one may. The error is for people.
    pub fn admit(&mut self, peer: NodeId, life: Life) -> Result<(), String> {
        let latest = self.seen.entry(peer).or_insert(life);
        if life.incarnation != latest.incarnation {
            let (found, known) = (life.incarnation, latest.incarnation);
            return Err(format!(
                "node {peer} comes with another data folder: incarnation {found:016x}, known is {known:016x}; was its folder \
                 deleted, or do two nodes have the same id?"
            ));
        }
        if life.boot < latest.boot {
            let (found, known) = (life.boot, latest.boot);
            return Err(format!(
                "node {peer} comes with an older boot: {found}, known is {known}; was its data folder restored from a copy?"
            ));
        }
        *latest = life;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_may_reconnect_and_restart_but_not_go_back_or_change_its_folder() {
        let (mut lives, peer) = (PeerLives::default(), NodeId(2));
        let life = |incarnation, boot| Life { incarnation, boot };
        assert_eq!(lives.admit(peer, life(7, 3)), Ok(()));
        assert_eq!(lives.admit(peer, life(7, 3)), Ok(()));
        assert_eq!(lives.admit(peer, life(7, 5)), Ok(()));
        let older = lives.admit(peer, life(7, 4)).unwrap_err();
        assert!(older.starts_with("node 2 comes with an older boot: 4, known is 5"), "{older}");
        let other = lives.admit(peer, life(8, 9)).unwrap_err();
        assert!(other.starts_with("node 2 comes with another data folder: incarnation 0000000000000008"), "{other}");
        assert_eq!(lives.admit(peer, life(7, 5)), Ok(()), "a refusal changes nothing");
        assert_eq!(lives.admit(NodeId(3), life(8, 1)), Ok(()), "peers are apart");
    }
}
