//! Whose folder it is: identity, lock and lives, on a real file system.

use super::files::FaultyFiles;
use super::*;
use crate::storage::{Life, Lineage, PeerMemory, REMEMBERED_BOOTS, Start};

fn refusal(options: &OpenOptions) -> String {
    match FileStorage::open(options).map(|storage| storage.life()) {
        Err(StorageError::Refused(message)) => {
            assert!(message.contains(&options.folder.display().to_string()), "{message} names the folder");
            message
        }
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn each_start_is_a_new_boot_of_the_same_incarnation() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path().join("a/folder/deep/down"));
    let first = FileStorage::open(&options).unwrap().life();
    assert_eq!(first.boot, 1);
    for boot in 2..=5 {
        assert_eq!(FileStorage::open(&options).unwrap().life(), Life { boot, ..first });
    }
    let other = OpenOptions { folder: folder.path().join("other"), ..options };
    assert_ne!(FileStorage::open(&other).unwrap().life().incarnation, first.incarnation);
}

#[test]
fn a_folder_in_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let storage = FileStorage::open(&options).unwrap();
    assert!(refusal(&options).contains("in use by another process"));
    let life = storage.life();
    drop(storage);
    assert_eq!(FileStorage::open(&options).unwrap().life().boot, life.boot + 1, "the refused start does not count");
}

#[test]
fn the_folder_of_another_node_or_cluster_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mine = options(folder.path());
    drop(FileStorage::open(&mine).unwrap());

    let message = refusal(&OpenOptions { node: NodeId(3), ..mine.clone() });
    assert!(message.contains("belongs to node 2, but this node was told 3"), "{message}");

    let membership = Membership::of_voters((1..=5).map(NodeId));
    let other = OpenOptions { cluster_id: cluster_id("raft", &membership), membership, ..mine.clone() };
    let message = refusal(&other);
    assert!(message.contains("nodes 1, 2, 3, but this node was told 1, 2, 3, 4, 5"), "{message}");

    let other = cluster_id("tfar", &mine.membership);
    let message = refusal(&OpenOptions { cluster_id: other, ..mine.clone() });
    assert!(message.contains(&format!("{:016x}", mine.cluster_id)) && message.contains(&format!("{other:016x}")));

    assert_eq!(FileStorage::open(&mine).unwrap().life().boot, 2, "refused starts do not count");
}

#[test]
fn unfinished_files_are_removed_and_foreign_ones_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    drop(FileStorage::open(&options).unwrap());
    let names = ["identity.tmp", "peers.tmp", "0000000002.wal.tmp", "notes.tmp", "notes.wal"];
    names.iter().for_each(|name| std::fs::write(folder.path().join(name), b"unfinished").unwrap());
    let storage = FileStorage::open(&options).unwrap();
    assert_eq!(names.map(|name| folder.path().join(name).exists()), [false, false, false, true, true]);
    drop(storage);
}

#[test]
fn the_cluster_id_tells_names_and_voters_apart() {
    let voters = |ids: &[u64]| Membership::of_voters(ids.iter().copied().map(NodeId));
    let ids = [
        cluster_id("raft", &voters(&[1, 2, 3])),
        cluster_id("raft", &voters(&[1, 2])),
        cluster_id("raft2", &voters(&[1, 2, 3])),
        cluster_id("raf", &voters(&[1, 2, 3])),
        cluster_id("", &voters(&[])),
    ];
    let distinct: std::collections::BTreeSet<u64> = ids.into();
    assert_eq!(distinct.len(), ids.len());
    assert_eq!(cluster_id("raft", &voters(&[3, 1, 2])), ids[0]);
}

#[test]
fn a_folder_proves_the_starts_before() {
    let files = MemoryFiles::default();
    let start = |rejoin, nonce| {
        let options = OpenOptions { rejoin, ..options(FOLDER) };
        let Lineage { start, earlier } =
            FileStorage::open_with(&options, Arc::new(files.clone()), [7, nonce]).unwrap().lineage().clone();
        assert_eq!(start.nonce, nonce);
        (start.life.boot, earlier)
    };
    let count = REMEMBERED_BOOTS as u64 + 3;
    for boot in 1..=count {
        let kept = (1..boot).rev().take(REMEMBERED_BOOTS).map(|before| 100 + before);
        assert_eq!(start(false, 100 + boot), (boot, kept.collect()));
    }
    assert_eq!(start(true, 5), (1, vec![]), "another incarnation has no part in them");
    assert_eq!(start(false, 6), (2, vec![5]));
}

#[test]
fn a_boot_that_is_out_of_reach_has_no_nonce() {
    let start = Start { life: Life { incarnation: 7, boot: 5 }, nonce: 15 };
    let lineage = Lineage { start, earlier: vec![14, 13] };
    let known: Vec<_> = [2, 3, 4, 5, 6].map(|boot| lineage.nonce_of(boot)).into();
    assert_eq!(known, [None, Some(13), Some(14), Some(15), None]);
}

#[test]
fn peers_are_remembered_across_starts() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let start = |incarnation, boot| Start { life: Life { incarnation, boot }, nonce: 5 };
    let (first, second) = (start(7, 3), start(8, 1));
    let mut storage = FileStorage::open(&options).unwrap();
    let mut peers = storage.take_peers();
    assert_eq!(peers.latest(NodeId(1)), None);
    peers.remember(NodeId(1), first).unwrap();
    peers.remember(NodeId(3), second).unwrap();
    peers.remember(NodeId(1), start(7, 4)).unwrap();
    drop(storage);
    let peers = FileStorage::open(&options).unwrap().take_peers();
    assert_eq!(peers.latest(NodeId(1)), Some(start(7, 4)));
    assert_eq!((peers.latest(NodeId(3)), peers.latest(NodeId(4))), (Some(second), None));

    let path = folder.path().join("peers");
    let whole = std::fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        std::fs::write(&path, damaged).unwrap();
        let refused = FileStorage::open(&options).err();
        assert!(matches!(refused, Some(StorageError::Damaged { .. })), "byte {at}: {refused:?}");
    }
}

#[test]
fn a_life_that_cannot_be_written_is_not_remembered() {
    let start = |boot| Start { life: Life { incarnation: 7, boot }, nonce: 5 };
    let (before, later) = (start(3), start(4));
    for first in 0.. {
        let files = MemoryFiles::default();
        open(&files).unwrap().take_peers().remember(NodeId(1), before).unwrap();
        let faulty = FaultyFiles::new(files.clone(), first, 1);
        let mut peers = PeerMemory::load(Arc::new(faulty), FOLDER.as_ref());
        let remembered = peers.as_mut().is_ok_and(|peers| peers.remember(NodeId(1), later).is_ok());
        let expected = if remembered { later } else { before };
        if let Ok(peers) = peers {
            assert_eq!(peers.latest(NodeId(1)), Some(expected), "operation {first} fails");
        }
        let found = open(&files.after_power_loss()).unwrap().take_peers().latest(NodeId(1)).unwrap();
        assert!(found.life >= expected.life, "operation {first} fails, then the power: {found:?}");
        if expected == later {
            return;
        }
    }
}

#[test]
fn a_life_is_remembered_when_there_is_space_for_it() {
    let files = MemoryFiles::default();
    let mut peers = open(&files).unwrap().take_peers();
    let start = Start { life: Life { incarnation: 7, boot: 3 }, nonce: 5 };
    files.set_room(0);
    for _ in 0..2 {
        let error = peers.remember(NodeId(1), start).unwrap_err();
        assert!(error.is_full(), "{error}");
        assert_eq!(peers.latest(NodeId(1)), None);
    }
    files.set_room(u64::MAX);
    peers.remember(NodeId(1), start).unwrap();
    assert_eq!(open(&files.after_power_loss()).unwrap().take_peers().latest(NodeId(1)), Some(start));
}

#[test]
fn a_folder_that_rejoins_is_another_incarnation_and_abstains_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let rejoin = OpenOptions { rejoin: true, ..options.clone() };
    let mut storage = FileStorage::open(&options).unwrap();
    let before = storage.life();
    assert!(!storage.abstains());
    write_group(&mut storage, &[append(1, 3, 1)]).unwrap();
    drop(storage);

    let mut storage = FileStorage::open(&rejoin).unwrap();
    let life = storage.life();
    assert_ne!(life.incarnation, before.incarnation);
    assert_eq!((life.boot, storage.abstains()), (1, true));
    assert_eq!(State::of(&mut storage).0.entries.len(), 3, "what the folder still has, it need not receive again");
    write_group(&mut storage, &[append(4, 5, 1)]).unwrap();
    drop(storage);

    let mut storage = FileStorage::open(&options).unwrap();
    assert_eq!((storage.life(), storage.abstains()), (Life { boot: 2, ..life }, true), "without the option, too");
    assert_eq!(State::of(&mut storage).0.entries.len(), 5);
}

#[test]
fn a_folder_that_a_peer_called_an_older_copy_is_not_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let mut storage = FileStorage::open(&options).unwrap();
    let start = Start { life: storage.life(), nonce: 5 };
    storage.take_peers().remember(options.node, start).unwrap();
    drop(storage);
    for _ in 0..3 {
        assert!(refusal(&options).contains("--rejoin"));
    }
    let rejoin = OpenOptions { rejoin: true, ..options.clone() };
    assert!(FileStorage::open(&rejoin).unwrap().abstains());
    assert!(FileStorage::open(&options).unwrap().abstains());
}
