//! Files of every format version, as they were written once and must be read forever.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

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
const FILES: [&str; 4] = ["identity", "peers", "0000000001.wal", "0000000002.wal"];

fn golden(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/storage").join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn identity() -> Identity {
    Identity {
        cluster_id: options(FOLDER).cluster_id,
        node: NodeId(2),
        life: LIFE,
        log_incarnation: INCARNATION,
        rejoined: true,
        voters: BTreeSet::from([NodeId(1), NodeId(2), NodeId(3)]),
    }
}

/// Every kind of record and of entry, and a second segment.
fn groups() -> Vec<Vec<WriteBatch>> {
    let members =
        Membership { learners: [NodeId(4)].into(), ..Membership::of_voters([NodeId(1), NodeId(2), NodeId(3)]) };
    let entry = |index, kind, session, payload: &[u8]| Entry {
        header: EntryHeader {
            index: Index(index),
            term: Term(2),
            kind,
            time: LogTime(1000 + index),
            session,
            size: payload.len() as u32,
        },
        payload: payload.to_vec().into(),
    };
    let session = Some(SessionSequence { session: 77, sequence: 5 });
    let entries = vec![
        entry(1, EntryKind::Noop, None, b""),
        entry(2, EntryKind::Membership(members.into()), None, b""),
        entry(3, EntryKind::Command, session, b"set colour blue"),
        entry(4, EntryKind::Tick, None, b""),
    ];
    let first = WriteBatch { entries, ..vote(2, 3) };
    vec![vec![first], vec![replace(4, 5, 3), vote(4, 0)], vec![append(6, 9, 4)]]
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
    assert_eq!(State::of(&mut storage), (state(), None));
    let peers = storage.take_peers();
    assert_eq!(PEERS.map(|(peer, start)| peers.latest(peer) == Some(start)), [true; 2]);
}

#[test]
fn a_folder_of_the_first_version_goes_on_as_one_of_this() {
    let names =
        [("identity", "identity.1"), ("0000000001.wal", "0000000001.wal"), ("0000000002.wal", "0000000002.wal")];
    let files = folder(names);
    for boot in [8, 9] {
        let mut storage = open(&files).unwrap();
        assert_eq!((storage.life(), storage.abstains()), (Life { incarnation: INCARNATION, boot }, false));
        assert_eq!(State::of(&mut storage), (state(), None));
        assert_eq!(storage.take_peers().latest(NodeId(1)), None);
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
    }
    let mut peers = PeerMemory::load(Arc::new(files.clone()), FOLDER.as_ref()).unwrap();
    PEERS.iter().for_each(|(peer, start)| peers.remember(*peer, *start).unwrap());
    let written = files.all();
    assert_eq!(written.len(), FILES.len());
    for name in FILES {
        assert_eq!(written[&Path::new(FOLDER).join(name)], golden(name), "{name}");
    }
}
