//! The files of this format version, as they were written once and must be read forever. With `RAFT_WRITE_GOLDEN` set,
//! they are written anew: for a new version only.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::consensus::{EntryHeader, EntryKind, LogTime, SessionSequence};
use crate::storage::identity::Identity;
use crate::storage::wal::Wal;
use crate::storage::{Life, PeerMemory, Start};

/// Of the log; the node came back as another one.
const INCARNATION: u64 = 0x0123_4567_89ab_cdef;
const LIFE: Life = Life { incarnation: 0xfedc_ba98_7654_3210, boot: 7 };
const PEERS: [(NodeId, Start); 2] = [
    (NodeId(1), Start { life: Life { incarnation: 0x11, boot: 4 }, nonce: 0x14 }),
    (NodeId(3), Start { life: Life { incarnation: 0x33, boot: 9 }, nonce: 0x39 }),
];
const SEGMENT_BYTES: u64 = 1536;
const FILES: [&str; 5] = ["identity", "peers", "0000000003.wal", "0000000004.wal", "0000000005.wal"];

fn golden_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/storage").join(name)
}

fn golden(name: &str) -> Vec<u8> {
    let path = golden_path(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn identity() -> Identity {
    Identity {
        cluster_id: options(FOLDER).cluster_id,
        node: NodeId(2),
        life: LIFE,
        nonces: vec![0x27, 0x26],
        log_incarnation: INCARNATION,
        rejoined: true,
        voters: BTreeSet::from([NodeId(1), NodeId(2), NodeId(3)]),
    }
}

/// Every kind of record and of entry, in several segments.
fn groups() -> Vec<Vec<WriteBatch>> {
    let members =
        Membership { learners: [NodeId(4)].into(), ..Membership::of_voters([NodeId(1), NodeId(2), NodeId(3)]) };
    let entry = |index, kind, session, payload: &[u8]| Entry {
        header: EntryHeader {
            index: Index(index),
            term: Term(8),
            kind,
            time: LogTime(1000 + index),
            session,
            size: payload.len() as u32,
        },
        payload: payload.to_vec().into(),
    };
    let session = Some(SessionSequence { session: 77, sequence: 5 });
    let entries = vec![
        entry(24, EntryKind::Noop, None, b""),
        entry(25, EntryKind::Membership(members.into()), None, b""),
        entry(26, EntryKind::Command, session, b"set colour blue"),
        entry(27, EntryKind::Tick, None, b""),
    ];
    let snapshot = WriteBatch { entries: append(21, 22, 6).entries, ..conformance::install(20, 6) };
    vec![
        vec![append(1, 9, 1)],
        vec![replace(9, 18, 1)],
        vec![snapshot],
        vec![replace(22, 23, 6), vote(7, 0)],
        vec![WriteBatch { entries, ..vote(8, 3) }],
        vec![append(28, 31, 8)],
    ]
}

/// A folder with these golden files, one of them under another name.
fn folder(names: impl IntoIterator<Item = (&'static str, &'static str)>) -> MemoryFiles {
    let files = MemoryFiles::default();
    names.into_iter().for_each(|(name, file)| files.set(format!("{FOLDER}/{name}"), &golden(file)));
    files.create_folder(FOLDER.as_ref()).unwrap();
    files
}

fn state() -> State {
    groups().iter().flatten().fold(State::default(), |state, batch| state.after(batch))
}

#[test]
fn the_golden_files_say_what_was_written() {
    let mut storage = open(&folder(FILES.map(|name| (name, name)))).unwrap();
    assert_eq!((storage.life(), storage.abstains()), (Life { boot: 8, ..LIFE }, true));
    assert_eq!(storage.lineage().earlier, [0x27, 0x26]);
    assert_eq!(State::of(&mut storage), (state(), None));
    let peers = storage.take_peers();
    assert_eq!(PEERS.map(|(peer, start)| peers.latest(peer) == Some(start)), [true; 2]);
}

#[test]
fn a_folder_of_the_first_version_goes_on_as_one_of_this() {
    let names = FILES
        .iter()
        .filter(|name| **name != "peers")
        .map(|name| (*name, if *name == "identity" { "identity.1" } else { *name }));
    let files = folder(names);
    for boot in [8, 9] {
        let mut storage = open(&files).unwrap();
        assert_eq!((storage.life(), storage.abstains()), (Life { incarnation: INCARNATION, boot }, false));
        assert_eq!(State::of(&mut storage), (state(), None));
        assert_eq!(storage.take_peers().latest(NodeId(1)), None);
    }
}

#[test]
fn a_folder_of_the_second_version_goes_on_as_one_of_this() {
    let files = folder(FILES.map(|name| (name, if name == "identity" { "identity.2" } else { name })));
    for boot in [8, 9] {
        let mut storage = open(&files).unwrap();
        assert_eq!((storage.life(), storage.abstains()), (Life { boot, ..LIFE }, true));
        assert_eq!(storage.lineage().earlier.len() as u64, boot - 8, "it knows nothing of the boots before");
        assert_eq!(storage.take_peers().latest(NodeId(3)), Some(PEERS[1].1));
    }
}

#[test]
fn what_is_written_is_the_golden_files() {
    let files = MemoryFiles::default();
    identity().store(&files, FOLDER.as_ref()).unwrap();
    Wal::create(&files, FOLDER.as_ref(), INCARNATION).unwrap();
    let (mut wal, _) = Wal::open(Arc::new(files.clone()), FOLDER.as_ref(), INCARNATION, SEGMENT_BYTES).unwrap();
    for group in groups() {
        group.iter().for_each(|batch| wal.write(batch).unwrap());
        wal.sync().unwrap();
        while wal.idle().unwrap() == Some(Duration::ZERO) {}
    }
    wal.close().unwrap();
    let mut peers = PeerMemory::load(Arc::new(files.clone()), FOLDER.as_ref()).unwrap();
    PEERS.iter().for_each(|(peer, start)| peers.remember(*peer, *start).unwrap());
    let mut written = files.all();
    written.retain(|path, _| path.extension().is_none_or(|extension| extension != "spare"));
    assert_eq!(written.len(), FILES.len(), "{:?}", written.keys());
    for name in FILES {
        let bytes = written
            .get(&Path::new(FOLDER).join(name))
            .unwrap_or_else(|| panic!("{name} is not among {:?}", written.keys()));
        if std::env::var_os("RAFT_WRITE_GOLDEN").is_some() {
            fs::write(golden_path(name), bytes).unwrap();
        }
        assert_eq!(bytes, &golden(name), "{name}");
    }
}
