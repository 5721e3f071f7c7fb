//! `raft dump` and `raft check`, on real data folders: intact ones, ones that a crash left, and damaged ones.

#![cfg(feature = "cli")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use raft::consensus::{EntryKind, HardState, Index, LogTime, Membership, NodeId, SessionSequence, SnapshotMeta, Term};
use raft::storage::conformance::{append, install};
use raft::storage::files::DiskFiles;
use raft::storage::inspect::{DataFolder, Findings, Item, Record};
use raft::storage::snapshot::{FileSnapshots, SnapshotStore};
use raft::storage::{FileStorage, OpenOptions, Storage, StorageError, WriteBatch};
use serde_json::Value;
use tempfile::TempDir;

const CLUSTER: u64 = 77;
const SNAPSHOT: &str = "00000000000000000020-00000000000000000006.snapshot";

fn voters() -> Membership {
    Membership::of_voters([1, 2, 3].map(NodeId))
}

fn options(folder: &Path) -> OpenOptions {
    let (node, segment_bytes) = (NodeId(2), 4 << 10);
    let (folder, membership) = (folder.to_path_buf(), voters());
    OpenOptions { folder, cluster_id: CLUSTER, node, membership, segment_bytes, rejoin: false }
}

fn open(folder: &Path) -> FileStorage {
    FileStorage::open(&options(folder)).unwrap()
}

fn write(storage: &mut FileStorage, batch: &WriteBatch) {
    storage.write(batch).unwrap();
    storage.sync().unwrap();
}

/// Writes every kind of record and of entry, and several segments.
fn fill(folder: &Path) -> FileStorage {
    let mut storage = open(folder);
    write(&mut storage, &append(1, 3, 1));
    let snapshots = FileSnapshots::open(Arc::new(DiskFiles), folder, CLUSTER).unwrap();
    let meta = SnapshotMeta { index: Index(20), term: Term(6), time: LogTime(5), membership: voters() };
    let mut writer = snapshots.create(&meta).unwrap();
    writer.write_all(&[7; 200_000]).unwrap();
    writer.finish().unwrap();
    let mut batch = WriteBatch { entries: append(21, 24, 6).entries, ..install(20, 6) };
    batch.hard_state = Some(HardState { term: Term(6), vote: Some(NodeId(3)) });
    batch.entries[0].header.kind = EntryKind::Noop;
    batch.entries[1].header.kind = EntryKind::Membership(voters().into());
    batch.entries[2].header.session = Some(SessionSequence { session: 8, sequence: 9 });
    batch.entries[3].header.kind = EntryKind::Tick;
    for entry in [0, 1, 3] {
        batch.entries[entry].payload = Vec::new().into();
        batch.entries[entry].header.size = 0;
    }
    write(&mut storage, &batch);
    write(&mut storage, &WriteBatch { truncate_from: Some(Index(24)), ..append(24, 25, 7) });
    for round in 0..12 {
        write(&mut storage, &append(26 + 20 * round, 45 + 20 * round, 7));
    }
    storage
}

/// A folder of a node that was stopped in good order.
fn stopped() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path()).close().unwrap();
    folder
}

/// A folder of a node that was killed.
fn killed() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    drop(fill(folder.path()));
    folder
}

fn bytes(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    files.map(|path| (path.file_name().unwrap().to_str().unwrap().into(), fs::read(&path).unwrap())).collect()
}

fn segments(folder: &Path) -> Vec<String> {
    bytes(folder).into_keys().filter(|name| name.ends_with(".wal")).collect()
}

fn change(folder: &Path, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(folder.join(name)).unwrap();
    change(&mut bytes);
    fs::write(folder.join(name), bytes).unwrap();
}

fn inspect(folder: &Path) -> (Vec<Item>, Findings) {
    let mut items = Vec::new();
    let findings = DataFolder::open(folder).unwrap().inspect(Arc::new(|_| ()), &mut |item| items.push(item));
    (items, findings)
}

fn raft(arguments: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_raft")).args(arguments).arg(folder).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Runs both commands, which must agree, and leave every byte as it is. Returns what `check` says.
#[track_caller]
fn run(folder: &Path, code: i32) -> (String, String) {
    let before = bytes(folder);
    let (dump, check) = (raft(&["dump"], folder), raft(&["check"], folder));
    assert!(bytes(folder) == before, "a command changed a file");
    let (stdout, stderr) = (text(&check.stdout), text(&check.stderr));
    assert_eq!(check.status.code(), Some(code), "{stdout}{stderr}");
    assert_eq!((dump.status.code(), text(&dump.stderr)), (Some(code), stderr));
    (stdout.into(), stderr.into())
}

#[track_caller]
fn assert_damaged(folder: &Path, words: &[&str]) {
    let (stdout, stderr) = run(folder, 1);
    assert!(stdout.contains("damaged"), "{stdout}");
    for word in ["offset", "expected", "found"].iter().chain(words) {
        assert!(stderr.contains(word), "expected {word:?} in: {stderr}");
    }
}

#[test]
fn a_folder_that_is_fine() {
    for folder in [stopped(), killed()] {
        let (stdout, stderr) = run(folder.path(), 0);
        assert_eq!(stderr, "");
        let (_, findings) = inspect(folder.path());
        let Findings { segments, batches, records, entries, snapshots, .. } = findings;
        assert!(segments > 2 && batches >= 14 && entries > 240 && records > batches + entries && snapshots == 1);
        assert_eq!(
            stdout,
            format!(
                "{}: fine; intact: segments {segments}, batches {batches}, records {records} ({entries} of them entries), \
                 snapshots 1\n",
                folder.path().display()
            )
        );
        open(folder.path());
    }
}

#[test]
fn every_kind_of_item_is_dumped() {
    let folder = stopped();
    let (items, findings) = inspect(folder.path());
    assert!(items.iter().any(|item| matches!(item, Item::Identity { node: NodeId(2), cluster_id: CLUSTER, .. })));
    assert!(
        items.iter().any(|item| matches!(item, Item::Log(log) if log.last == Index(265) && log.base.0 == Index(20)))
    );
    let records: Vec<&Record> = items
        .iter()
        .filter_map(|item| if let Item::Record { record, .. } = item { Some(record) } else { None })
        .collect();
    assert_eq!(records.len() as u64, findings.records);
    assert!(records.contains(&&Record::HardState(HardState { term: Term(6), vote: Some(NodeId(3)) })));
    assert!(records.contains(&&Record::Install(Index(20), Term(6))));
    assert!(records.contains(&&Record::Truncate(Index(24), Term(6))));
    let expected = append(265, 265, 7).entries.remove(0);
    assert!(records.contains(&&Record::Entry(expected)));

    let output = raft(&["dump", "--json"], folder.path());
    assert!(output.status.success());
    let lines: Vec<Value> = text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), items.len());
    for kind in ["identity", "segment", "entry", "hard_state", "truncate", "install", "end", "log", "snapshot"] {
        assert!(lines.iter().any(|line| line["type"] == kind), "{kind}");
    }
    for kind in ["noop", "command", "membership", "tick"] {
        assert!(lines.iter().any(|line| line["type"] == "entry" && line["kind"] == kind), "{kind}");
    }
    let stamped = lines.iter().find(|line| line["session"] == 8).unwrap();
    assert_eq!((&stamped["sequence"], &stamped["index"]), (&Value::from(9), &Value::from(23)));
    assert!(stamped["payload"].is_string() && stamped["offset"].as_u64() > Some(512));

    let output = raft(&["dump"], folder.path());
    assert_eq!(text(&output.stdout).lines().count(), items.len());
    assert!(text(&output.stdout).contains("truncate batch=3 from_index=24 term_before=6"), "{}", text(&output.stdout));
}

#[test]
fn an_interrupted_last_write_is_noted() {
    let folder = killed();
    let last = segments(folder.path()).pop().unwrap();
    change(folder.path(), &last, |bytes| {
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        bytes[end - 100..].fill(0);
    });
    let (_, stderr) = run(folder.path(), 0);
    assert!(stderr.starts_with("note: the next start will cut"), "{stderr}");
    assert!(stderr.contains(&last) && stderr.contains("at offset"), "{stderr}");
}

#[test]
fn a_flipped_byte() {
    let folder = stopped();
    for name in segments(folder.path()) {
        change(folder.path(), &name, |bytes| bytes[700] ^= 4);
        assert_damaged(folder.path(), &[&name, "is damaged at offset"]);
        change(folder.path(), &name, |bytes| bytes[700] ^= 4);
    }
    change(folder.path(), SNAPSHOT, |bytes| bytes[100_000] ^= 4);
    assert_damaged(folder.path(), &[SNAPSHOT]);
    change(folder.path(), SNAPSHOT, |bytes| bytes[100_000] ^= 4);
    change(folder.path(), "identity", |bytes| bytes[30] ^= 4);
    assert_damaged(folder.path(), &["identity"]);
}

/// Wherever a byte of the log is flipped: the inspection finds damage if and only if a start does, and the same entries.
#[test]
fn the_inspection_and_a_start_agree() {
    let (folder, copy) = (killed(), tempfile::tempdir().unwrap());
    let intact = bytes(folder.path());
    let (mut damaged, mut torn) = (0, 0);
    for name in segments(folder.path()) {
        for offset in (0..intact[&name].len()).step_by(397) {
            for entry in fs::read_dir(copy.path()).unwrap() {
                fs::remove_file(entry.unwrap().path()).unwrap();
            }
            intact.iter().for_each(|(name, bytes)| fs::write(copy.path().join(name), bytes).unwrap());
            change(copy.path(), &name, |bytes| bytes[offset] ^= 0x10);
            let (items, findings) = inspect(copy.path());
            let found = items.iter().find_map(|item| if let Item::Log(log) = item { Some(log.clone()) } else { None });
            let started = FileStorage::open(&options(copy.path())).and_then(|mut storage| storage.recover(&mut |_| ()));
            match started {
                Ok(started) => {
                    assert_eq!(findings.problems, [], "{name} at offset {offset}");
                    torn += usize::from(started.repaired.is_some());
                    assert_eq!(findings.notices.len(), usize::from(started.repaired.is_some()));
                    assert_eq!(found, Some(started));
                }
                Err(error) => {
                    damaged += 1;
                    assert_eq!((findings.problems, found), (vec![error], None), "{name} at offset {offset}");
                }
            }
        }
    }
    assert!(damaged > 10 && torn > 0, "{damaged} {torn}");
}

#[test]
fn a_segment_that_is_missing() {
    let folder = stopped();
    let names = segments(folder.path());
    fs::remove_file(folder.path().join(&names[1])).unwrap();
    assert_damaged(folder.path(), &[&names[1], "at offset 0", "no such file"]);
}

#[test]
fn a_log_that_begins_after_its_snapshots() {
    let folder = stopped();
    let names = segments(folder.path());
    fs::remove_file(folder.path().join(&names[0])).unwrap();
    let (_, stderr) = run(folder.path(), 1);
    assert!(stderr.contains("the log begins after entry") && stderr.contains("ends with entry 20"), "{stderr}");
}

#[test]
fn snapshots_that_are_not_what_they_must_be() {
    let folder = stopped();
    let intact = fs::read(folder.path().join(SNAPSHOT)).unwrap();
    change(folder.path(), SNAPSHOT, |bytes| bytes.truncate(150_000));
    assert_damaged(folder.path(), &[SNAPSHOT]);
    let (_, stderr) = run(folder.path(), 1);
    assert!(stderr.contains("there is no snapshot"), "the log needs it: {stderr}");

    let other = SNAPSHOT.replace("20-", "21-");
    fs::write(folder.path().join(SNAPSHOT), &intact).unwrap();
    fs::write(folder.path().join(&other), &intact).unwrap();
    assert_damaged(folder.path(), &[&other, "offset 24"]);
}

#[test]
fn the_identity_of_another_folder_or_none() {
    let (folder, other) = (stopped(), stopped());
    fs::copy(other.path().join("identity"), folder.path().join("identity")).unwrap();
    let first = segments(folder.path()).remove(0);
    assert_damaged(folder.path(), &[&first, "at offset 0", "of folder"]);
    fs::remove_file(folder.path().join("identity")).unwrap();
    let (stdout, stderr) = run(folder.path(), 1);
    assert!(stderr.contains("identity") && stderr.contains("no such file"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "the log is verified all the same");
    assert!(stdout.contains("snapshots 1"), "{stdout}");
}

#[test]
fn all_damage_is_reported_not_only_the_first() {
    let folder = stopped();
    let names = segments(folder.path());
    for name in [&names[0], &names[2]] {
        change(folder.path(), name, |bytes| bytes[700] ^= 4);
    }
    change(folder.path(), SNAPSHOT, |bytes| bytes[100_000] ^= 4);
    assert_damaged(folder.path(), &[&names[0], &names[2], SNAPSHOT]);
    assert_eq!(run(folder.path(), 1).1.lines().count(), 3);
}

#[test]
fn leftovers_are_expected_and_unknown_files_named() {
    let folder = stopped();
    for name in ["identity.tmp", "0000000009.spare", "0000000009.wal.tmp", "00.snapshot.part"] {
        fs::write(folder.path().join(name), "left").unwrap();
    }
    assert_eq!(run(folder.path(), 0).1, "");
    fs::write(folder.path().join("notes"), "mine").unwrap();
    let (_, stderr) = run(folder.path(), 0);
    assert!(stderr.starts_with("warning: ") && stderr.contains("notes"), "{stderr}");
}

#[test]
fn folders_that_are_none_and_a_node_that_runs() {
    let above = tempfile::tempdir().unwrap();
    let refused = |folder: &Path, words: &[&str]| {
        assert!(matches!(DataFolder::open(folder).map(drop), Err(StorageError::Refused(_))));
        for command in ["dump", "check"] {
            let output = raft(&[command], folder);
            assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""));
            words.iter().for_each(|word| assert!(text(&output.stderr).contains(word), "{}", text(&output.stderr)));
        }
    };
    refused(&above.path().join("none"), &["there is no folder", "none"]);
    refused(above.path(), &["is not the data folder of a node", "`identity`"]);
    let (first, second) = (above.path().join("A"), above.path().join("B"));
    let node = open(&first);
    drop(open(&second));
    refused(above.path(), &["Name one of them", first.to_str().unwrap(), second.to_str().unwrap()]);
    refused(&first, &["a node runs on", "Stop it first"]);
    drop(node);
    run(&first, 0);
}

#[test]
fn usage() {
    for arguments in
        [&["dump"][..], &["check"], &["check", "a", "b"], &["check", "--json", "a"], &["dump", "--yaml", "a"]]
    {
        let output = Command::new(env!("CARGO_BIN_EXE_raft")).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
    let help = Command::new(env!("CARGO_BIN_EXE_raft")).arg("--help").output().unwrap();
    for command in ["dump", "check"] {
        assert!(
            text(&help.stdout).lines().any(|line| line.trim_start().starts_with(command)),
            "{}",
            text(&help.stdout)
        );
    }
}
