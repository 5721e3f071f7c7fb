//! Whose folder it is: identity, lock and lives, on a real file system.

use super::*;
use crate::storage::Life;

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
    assert!(message.contains("belongs to node 2, but raft.ini says 3"), "{message}");

    let membership = Membership::of_voters((1..=5).map(NodeId));
    let other = OpenOptions { cluster_id: cluster_id("raft", &membership), membership, ..mine.clone() };
    let message = refusal(&other);
    assert!(message.contains("nodes 1, 2, 3, but raft.ini says 1, 2, 3, 4, 5"), "{message}");

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
    let names = ["identity.tmp", "0000000002.wal.tmp", "notes.tmp", "notes.wal"];
    names.iter().for_each(|name| std::fs::write(folder.path().join(name), b"unfinished").unwrap());
    let storage = FileStorage::open(&options).unwrap();
    assert_eq!(names.map(|name| folder.path().join(name).exists()), [false, false, true, true]);
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
