//! raft.ini: what is accepted, and the exact words for every kind of mistake.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use raft::config::{Config, ConfigError, RuntimeKind, StorageClass, key_help};
use raft::consensus::{ForcedRole, ForcedStart, HardState, Index, NodeId, Term};

/// Every `tests/golden/config/*.ini` is wrong in one way, and is refused with the words of the `.txt` beside it. With
/// `UPDATE_GOLDENFILES=1` these are written anew, to be reviewed as part of the change.
#[test]
fn every_kind_of_mistake_has_its_message() {
    let mut files: Vec<PathBuf> =
        fs::read_dir("tests/golden/config").unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let update = std::env::var_os("UPDATE_GOLDENFILES").is_some();
    let mut wrong = Vec::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "ini")) {
        let found = Config::load(file).expect_err(&format!("{} is accepted", file.display())).to_string() + "\n";
        let golden = file.with_extension("txt");
        if update {
            fs::write(&golden, &found).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        if found != expected {
            wrong.push(format!("{}:\n  expected {expected}  found    {found}", golden.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_checked_in_file_is_what_init_writes_for_five_nodes() {
    let expected = Config::local(5, "./datasets/raft");
    assert_eq!(fs::read_to_string("raft.ini").unwrap(), expected.to_ini());
    assert_eq!(Config::load("raft.ini").unwrap(), Config { data_directory: "./datasets/raft".into(), ..expected });
}

#[test]
fn every_key_is_in_the_file_and_explained() {
    let text = fs::read_to_string("raft.ini").unwrap();
    let scenarios: String = scenarios().iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    for key in key_help() {
        let (place, text) = if key.section == "Start.X" { ("scenarios", &scenarios) } else { ("raft.ini", &text) };
        let is_there = text.lines().any(|line| line.starts_with(&format!("{} = ", key.name)));
        assert!(is_there, "{} is not in {place}", key.name);
        assert!(key.explanation.len() > 40 && key.explanation.ends_with('.'), "{}: {}", key.name, key.explanation);
        assert!(!key.allowed.is_empty());
    }
}

/// The files in `scenarios`.
fn scenarios() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir("scenarios").unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn every_scenario_forces_a_start_that_could_have_come_about() {
    let raft = Config::load("raft.ini").unwrap();
    let mut ports: BTreeSet<u16> = raft.nodes.iter().map(|node| node.port).collect();
    for file in scenarios() {
        let name = file.display();
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with(";; ") && text.contains("What to expect"), "{name} says what to expect");
        let config = Config::load(&file).unwrap();
        assert!(config.nodes.iter().all(|node| config.forced_start(node).is_some()), "{name}");
        assert_eq!(config.name, file.file_stem().unwrap().to_str().unwrap(), "no two scenarios are one cluster");
        assert_eq!(config.nodes[0].port % 10, 1, "{name}");
        assert!(config.nodes.iter().all(|node| ports.insert(node.port)), "{name} has a port of another file");
    }
}

#[test]
fn a_forced_start_is_what_the_file_says() {
    let text = "[Cluster]\nStorageClass = InMemoryStorage\n[Nodes]\nNode1 = A\nNode2 = B\nNode3 = C\n\
                [Node.A]\nId = 1\nHost = ::1\nPort = 3111\n[Node.B]\nId = 2\nHost = ::1\nPort = 3112\n\
                [Node.C]\nId = 3\nHost = ::1\nPort = 3113\n";
    let plain = load(text);
    assert!(plain.nodes.iter().all(|node| plain.forced_start(node).is_none()), "a start is forced only in a scenario");
    let config = load(&format!(
        "{text}[Start.A]\nRole = Leader\nLog = 1 1 4\nNextIndex = B:2\nMatchIndex = 2:1\n\
         [Start.B]\nTerm = 4\nVotedFor = A\nLog = 1\n"
    ));
    let [a, b, c] = [0, 1, 2].map(|node| config.forced_start(&config.nodes[node]).unwrap());
    let hard_state = HardState { term: Term(4), vote: Some(NodeId(1)) };
    let progress = BTreeMap::from([(NodeId(2), (Index(1), Index(2))), (NodeId(3), (Index(0), Index(4)))]);
    assert_eq!(a, ForcedStart { hard_state, log: [1, 1, 4].map(Term).into(), role: ForcedRole::Leader(progress) });
    assert_eq!(b, ForcedStart { hard_state, log: [1].map(Term).into(), role: ForcedRole::Follower });
    assert_eq!(c, ForcedStart::default(), "without a section a node is blank");
    assert_eq!(load(&config.to_ini()), config);
}

#[test]
fn what_is_left_out_has_its_default() {
    let config = load("[Nodes]\nNode1 = A\n[Node.A]\nId = 7\nHost = ::1\nPort = 3111\n");
    let mut expected = Config::local(1, config.data_directory.clone());
    expected.nodes[0].id = NodeId(7);
    expected.nodes[0].host = "::1".into();
    assert_eq!(config, expected);
    assert_eq!((config.nodes[0].client_port, config.nodes[0].http_port), (4111, 5111));
}

#[test]
fn values_are_read_as_people_write_them() {
    let config = load(
        ";; comment\r\n[Cluster] ; comment\r\n\tName = \"quoted\" ;; comment\r\nElectionTimeout=1000\r\n\
         SegmentBytes = 65536\nSnapshotBytes = 128KiB\nMaxInflightBytes = 8 MiB ; comment; more\nDebug = yes\n\
         StorageClass = InMemoryStorage\nNodeCount = 1\n\n[Node.B]\nLabel = Beta\nId = 65535\nHost = node-b.example\n\
         Port = 65533\nClientPort = 1\nHttpPort = 2\n[Node.A]\nId = 1\nHost = localhost\nPort = 3111\n\
         [Nodes]\nNode10 = A\nNode2 = B",
    );
    assert_eq!(config.name, "quoted");
    assert_eq!(config.election_timeout, Duration::from_secs(1));
    assert_eq!(config.limits.segment_bytes, 65536);
    assert_eq!(config.limits.snapshot_bytes, 131072);
    assert_eq!(config.limits.max_inflight_bytes, 8 << 20);
    assert!(config.debug);
    assert_eq!(config.storage, StorageClass::InMemoryStorage);
    let labels: Vec<_> = config.nodes.iter().map(|node| node.label.as_str()).collect();
    assert_eq!(labels, ["Beta", "A"], "in the order of the numbers in [Nodes]");
    assert_eq!(config.initial_membership().members().into_iter().collect::<Vec<_>>(), [NodeId(65535)]);
}

#[test]
fn the_data_directory_is_relative_to_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let load = |directory: &str| {
        let path = folder.path().join("raft.ini");
        let config = Config { data_directory: directory.into(), ..Config::local(1, "") };
        fs::write(&path, config.to_ini()).unwrap();
        Config::load(&path).unwrap().data_directory
    };
    assert_eq!(load("data"), folder.path().join("data"));
    assert_eq!(load("./a/./b"), folder.path().join("a/b"));
    assert_eq!(load("a ; b"), folder.path().join("a ; b"));
    assert_eq!(load("/var/lib/raft"), Path::new("/var/lib/raft"));
    let home = std::env::home_dir().unwrap();
    assert_eq!(load("~"), home);
    assert_eq!(load("~/raft"), home.join("raft"));
}

#[test]
fn nodes_are_found_by_id_and_by_label() {
    let config = Config::local(30, "data");
    let label = |name: &str| config.find(name).map(|node| node.label.as_str());
    assert_eq!(label("2"), Some("B"));
    assert_eq!(label("B"), Some("B"));
    assert_eq!(label("27"), Some("N27"));
    assert_eq!(label("b"), None);
    assert_eq!(label("02"), None);
    assert_eq!(config.find("B").unwrap().to_string(), "2 (B)");
}

#[test]
fn a_configuration_made_by_a_program_is_checked_too() {
    for nodes in [1, 2, 5, 99] {
        Config::local(nodes, "data").check().unwrap();
    }
    let mut config = Config::local(3, "data");
    config.heartbeat_interval = config.election_timeout;
    config.nodes[1].port = 0;
    config.nodes[2].label = "a".into();
    let message = config.check().unwrap_err().to_string();
    let lines: Vec<_> = message.lines().map(|line| line.split(" = ").next().unwrap()).collect();
    assert_eq!(
        lines,
        ["configuration: [Node.B] Port", "configuration: [Cluster] HeartbeatInterval", "configuration: [Node.a] Label"]
    );
    assert!(Config::local(0, "data").check().is_err());
    assert!(Config::local(100, "data").check().is_err());
}

#[test]
fn only_loopback_addresses_run_without_insecure() {
    let with_host = |host: &str| {
        let mut config = Config::local(3, "data");
        config.nodes[1].host = host.into();
        config
    };
    for host in ["127.0.0.1", "127.8.8.8", "::1", "localhost", "LocalHost"] {
        with_host(host).check_exposure(false).unwrap();
    }
    for host in ["10.0.0.1", "fe80::1", "example.org", "localhost.example.org", "127.0.0.1.example.org"] {
        let error = with_host(host).check_exposure(false).unwrap_err();
        assert!(matches!(&error, ConfigError::Exposed { label, .. } if label == "B"), "{error}");
        assert!(error.to_string().contains(host) && error.to_string().contains("--insecure"), "{error}");
        with_host(host).check_exposure(true).unwrap();
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load("tests/golden/no-such.ini").unwrap_err();
    assert!(matches!(error, ConfigError::Unreadable { .. }));
    assert!(error.to_string().starts_with("cannot read tests/golden/no-such.ini: "), "{error}");
    assert!(Config::load("tests").is_err());
}

/// The configuration that a file with this text means.
fn load(text: &str) -> Config {
    load_bytes(text.as_bytes()).unwrap()
}

fn load_bytes(bytes: &[u8]) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("raft.ini");
    fs::write(&path, bytes).unwrap();
    let config = Config::load(&path)?;
    let data_directory = config.data_directory.strip_prefix(folder.path()).map(PathBuf::from).unwrap_or_default();
    Ok(Config { data_directory, ..config })
}

proptest! {
    /// Whatever a configuration says, its file says the same.
    #[test]
    fn written_and_read_again_nothing_changes(
        nodes in 1usize..=9, count in 1usize..=9, times in (10u64..=600_000, 1u64..=600_000, 0u64..=600_000),
        age in 0u64..=366 * 24 * 3600, sizes in (1u64..=1_000_000_000_000, 4096u64..=1 << 40, 4096u64..=1 << 30, 1024u64..=64 << 20, 65536u64..=512 << 20),
        workers in 1usize..=256, debug: bool, memory: bool, name in "[A-Za-z][A-Za-z0-9._-]{0,63}", base in 1u16..=50_000,
    ) {
        let mut config = Config::local(nodes, "data");
        config.node_count = count.min(nodes);
        config.election_timeout = Duration::from_millis(times.0);
        config.heartbeat_interval = Duration::from_millis(times.1.min(times.0 - 1));
        config.min_replication_interval = Duration::from_millis(times.2).min(config.heartbeat_interval);
        (config.limits.snapshot_entries, config.limits.snapshot_bytes, config.limits.segment_bytes, ..) = sizes;
        config.limits.snapshot_age = (age > 0).then(|| Duration::from_secs(age));
        config.limits.max_inflight_bytes = sizes.4;
        config.limits.max_request_bytes = sizes.3.min(sizes.4);
        config.limits.workers = workers;
        config.debug = debug;
        config.runtime = RuntimeKind::ThreadedRuntime;
        config.storage = if memory { StorageClass::InMemoryStorage } else { StorageClass::FileStorage };
        config.name = name;
        for (node, port) in config.nodes.iter_mut().zip((base..).step_by(3)) {
            (node.port, node.client_port, node.http_port) = (port, port + 1, port + 2);
        }
        config.check().unwrap();
        prop_assert_eq!(load(&config.to_ini()), config);
    }

    /// A damaged file is refused or means something: it never causes a panic.
    #[test]
    fn damaged_files_cause_no_panic(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), proptest::collection::vec(any::<u8>(), 0..4)), 1..20),
    ) {
        let mut bytes = Config::local(3, "data").to_ini().into_bytes();
        for (at, replacement) in edits {
            let at = at.index(bytes.len());
            bytes.splice(at..(at + replacement.len()).min(bytes.len()), replacement);
        }
        if let Ok(config) = load_bytes(&bytes) {
            config.check().unwrap();
        }
    }
}
