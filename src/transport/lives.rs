//! Which lives of peers may talk to this node: none that is known to have forgotten something.

use crate::codec::handshake::RefusalCode;
use crate::consensus::NodeId;
use crate::marks::{Mark, mark};
use crate::storage::{Life, Lineage, PeerMemory, Start, StorageError};

/// Admits peers by what is remembered of them.
pub(crate) struct PeerLives {
    memory: PeerMemory,
}

/// Why a peer's life may not talk to this node. For people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAdmitted {
    /// A later boot was seen.
    #[error(
        "the data folder of node {peer} is an older copy: this is boot {}, but boot {} was seen",
        found.life.boot,
        known.life.boot
    )]
    OlderBoot { peer: NodeId, found: Start, known: Start },
    /// This boot, or one before it, was seen in another process.
    #[error("the data folder of node {peer} is an older copy: another process was seen in its boot {boot}")]
    OtherProcess { peer: NodeId, boot: u64 },
    /// Another data folder was seen.
    #[error(
        "the data folder of node {peer} was wiped or replaced, or two nodes run under this id: this is incarnation \
         {:016x}, but {:016x} was seen", found.life.incarnation, known.life.incarnation
    )]
    OtherIncarnation { peer: NodeId, found: Start, known: Start },
    /// An earlier start was seen of a node that keeps nothing.
    #[error("node {peer} keeps nothing on disk and was started again: what it promised before is forgotten")]
    Forgetful { peer: NodeId },
    /// The life cannot be remembered: this node must stop, unless there is only no space.
    #[error("cannot remember the life of node {peer}: {error}")]
    NotRemembered { peer: NodeId, error: StorageError },
}

impl PeerLives {
    pub fn new(memory: PeerMemory) -> Self {
        PeerLives { memory }
    }

    /// Whether the peer may talk to us in this start, which must follow the one that is remembered. When this returns, it is
    /// remembered itself, and no older one may. A peer that `abstains` does not vouch for anything: it may come as another
    /// incarnation, or as a later start of one that keeps nothing.
    pub fn admit(&mut self, peer: NodeId, lineage: &Lineage, abstains: bool) -> Result<(), NotAdmitted> {
        let found = lineage.start;
        match self.memory.latest(peer) {
            Some(known) if known.life.incarnation != found.life.incarnation && !abstains => {
                mark(Mark::OtherIncarnationRefused);
                return Err(NotAdmitted::OtherIncarnation { peer, found, known });
            }
            Some(known) if known.life.incarnation == found.life.incarnation && known.life.boot > found.life.boot => {
                mark(Mark::OlderBootRefused);
                return Err(NotAdmitted::OlderBoot { peer, found, known });
            }
            Some(known) if found.life.keeps_nothing() && known.life != found.life && !abstains => {
                return Err(NotAdmitted::Forgetful { peer });
            }
            Some(Start { life: Life { incarnation, boot }, nonce })
                if incarnation == found.life.incarnation && lineage.nonce_of(boot).is_some_and(|own| own != nonce) =>
            {
                mark(Mark::OtherProcessRefused);
                return Err(NotAdmitted::OtherProcess { peer, boot });
            }
            _ => {}
        }
        self.remember(peer, found)
    }

    /// The life of a peer that was admitted last.
    pub fn life_of(&self, peer: NodeId) -> Option<Life> {
        self.memory.latest(peer).map(|start| start.life)
    }

    /// Remembers that this very node was told to run on an older copy: it must not start on that folder again.
    pub fn disown(&mut self, me: NodeId, own: Start) -> Result<(), NotAdmitted> {
        self.remember(me, own)
    }

    fn remember(&mut self, node: NodeId, start: Start) -> Result<(), NotAdmitted> {
        self.memory.remember(node, start).map_err(|error| {
            mark(Mark::LifeNotRemembered);
            NotAdmitted::NotRemembered { peer: node, error }
        })
    }
}

impl NotAdmitted {
    /// What the peer is told.
    pub fn code(&self) -> RefusalCode {
        match self {
            NotAdmitted::OlderBoot { .. } | NotAdmitted::OtherProcess { .. } => RefusalCode::OlderBoot,
            NotAdmitted::OtherIncarnation { .. } | NotAdmitted::Forgetful { .. } => RefusalCode::OtherIncarnation,
            NotAdmitted::NotRemembered { .. } => RefusalCode::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Life;

    const PEER: NodeId = NodeId(2);

    fn start(incarnation: u64, boot: u64) -> Lineage {
        Start { life: Life { incarnation, boot }, nonce: 1 }.into()
    }

    /// A boot of incarnation 7, and the nonces of it and of those before, the latest first.
    fn boot(boot: u64, nonces: &[u64]) -> Lineage {
        let life = Life { incarnation: 7, boot };
        Lineage { start: Start { life, nonce: nonces[0] }, earlier: nonces[1..].to_vec() }
    }

    #[test]
    fn a_start_must_follow_the_one_that_is_remembered() {
        let mut lives = PeerLives::new(PeerMemory::default());
        assert_eq!(lives.admit(PEER, &boot(2, &[12, 11]), false), Ok(()));
        assert_eq!(lives.admit(PEER, &boot(3, &[13, 12, 11]), false), Ok(()));
        // A copy of boot 2, which nobody heard in its own boot 3, nor in those until one is later than what is known.
        for nonces in [&[93, 12, 11][..], &[94, 93, 12, 11], &[99, 98, 97, 96, 95, 94, 93, 12, 11]] {
            for abstains in [false, true] {
                let copy = lives.admit(PEER, &boot(nonces.len() as u64, nonces), abstains).unwrap_err();
                assert_eq!(copy, NotAdmitted::OtherProcess { peer: PEER, boot: 3 });
                assert_eq!(copy.code(), RefusalCode::OlderBoot);
                assert!(copy.to_string().ends_with("an older copy: another process was seen in its boot 3"), "{copy}");
            }
        }
        assert_eq!(lives.admit(PEER, &boot(5, &[15, 14, 13, 12]), false), Ok(()), "one that it missed is no reason");
        assert_eq!(
            lives.admit(PEER, &boot(9, &[19, 18, 17]), false),
            Ok(()),
            "nor what a folder does not know any more"
        );
    }

    #[test]
    fn a_peer_may_reconnect_and_restart_but_not_go_back_or_change_its_folder() {
        let mut lives = PeerLives::new(PeerMemory::default());
        for boot in [3, 3, 5] {
            assert_eq!(lives.admit(PEER, &start(7, boot), false), Ok(()));
        }
        let older = lives.admit(PEER, &start(7, 4), false).unwrap_err();
        assert_eq!(
            older.to_string(),
            "the data folder of node 2 is an older copy: this is boot 4, but boot 5 was seen"
        );
        let other = lives.admit(PEER, &start(8, 9), false).unwrap_err();
        assert!(other.to_string().ends_with("incarnation 0000000000000008, but 0000000000000007 was seen"), "{other}");
        let copy = lives.admit(PEER, &boot(5, &[2]), false).unwrap_err();
        assert_eq!(copy.code(), RefusalCode::OlderBoot, "{copy}");
        assert_eq!([older.code(), other.code()], [RefusalCode::OlderBoot, RefusalCode::OtherIncarnation]);
        assert_eq!(lives.admit(PEER, &start(7, 5), false), Ok(()), "a refusal changes nothing");
        assert_eq!(lives.admit(NodeId(3), &start(8, 1), false), Ok(()), "peers are apart");
    }

    #[test]
    fn a_peer_that_keeps_nothing_may_start_again_only_if_it_abstains() {
        let mut lives = PeerLives::new(PeerMemory::default());
        assert_eq!(lives.admit(PEER, &start(0, 100), false), Ok(()));
        assert_eq!(lives.admit(PEER, &start(0, 100), false), Ok(()), "the same start");
        let forgetful = lives.admit(PEER, &start(0, 200), false).unwrap_err();
        assert_eq!(
            (forgetful.code(), &forgetful),
            (RefusalCode::OtherIncarnation, &NotAdmitted::Forgetful { peer: PEER })
        );
        assert_eq!(lives.admit(PEER, &start(0, 200), true), Ok(()));
        assert_eq!(lives.admit(PEER, &start(0, 200), false), Ok(()), "when it has caught up");
        assert_eq!(lives.admit(PEER, &start(0, 100), false).unwrap_err().code(), RefusalCode::OlderBoot);
        assert_eq!(lives.admit(PEER, &start(7, 1), false).unwrap_err().code(), RefusalCode::OtherIncarnation);
    }

    #[test]
    fn a_peer_that_abstains_may_change_its_folder_and_the_former_one_is_over() {
        let mut lives = PeerLives::new(PeerMemory::default());
        assert_eq!(lives.admit(PEER, &start(7, 3), false), Ok(()));
        assert_eq!(lives.admit(PEER, &start(1, 2), true), Ok(()));
        assert_eq!(lives.admit(PEER, &start(1, 1), true).unwrap_err().code(), RefusalCode::OlderBoot);
        assert_eq!(lives.admit(PEER, &start(7, 4), false).unwrap_err().code(), RefusalCode::OtherIncarnation);
    }
}
