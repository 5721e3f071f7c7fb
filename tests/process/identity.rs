//! Data folders that are wiped, restored from a copy, swapped or shared: each is recognised and answered safely (T45, T46, T62).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use raft::consensus::NodeId;

use crate::support::cluster::{Cluster, wait_until};

/// Writes so many keys, each of which must be acknowledged.
fn write(cluster: &Cluster, prefix: &str, count: usize) {
    let mut client = cluster.client();
    for n in 0..count {
        client.set(format!("{prefix}{n}").as_bytes(), b"v").expect("a write");
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a folder");
    for file in fs::read_dir(from).expect("the folder is there") {
        let file = file.expect("a file");
        fs::copy(file.path(), to.join(file.file_name())).expect("the file is copied");
    }
}

fn replace(folder: &Path, by: &Path) {
    fs::remove_dir_all(folder).expect("the folder is removed");
    fs::rename(by, folder).expect("the other one takes its place");
}

/// A cluster whose node 2 is stopped, and a copy of its folder from before it was started the last time.
fn with_older_copy() -> (Cluster, PathBuf) {
    let mut cluster = Cluster::start(3);
    cluster.wait_for_leader();
    write(&cluster, "first", 20);
    cluster.terminate(2);
    let older = cluster.ini().with_file_name("older");
    copy(&cluster.data_folder(2), &older);
    cluster.spawn(2);
    cluster.wait_until_caught_up();
    write(&cluster, "second", 20);
    cluster.terminate(2);
    (cluster, older)
}

/// The node has ended by itself with exit code 1, after it said all of this.
#[track_caller]
fn assert_ends(cluster: &mut Cluster, id: u64, words: &[&str]) {
    assert_eq!(cluster.await_end(id).code(), Some(1));
    let log = cluster.log(id);
    let error = log.lines().rfind(|line| line.starts_with("error: ")).expect("it says why");
    words.iter().for_each(|word| assert!(error.contains(word), "{error}: {word}"));
}

#[test]
fn a_wiped_node_is_refused_and_comes_back_to_listen() {
    let mut cluster = Cluster::start(3);
    cluster.wait_for_leader();
    write(&cluster, "before", 20);
    cluster.wait_until_caught_up();
    cluster.terminate(3);
    fs::remove_dir_all(cluster.data_folder(3)).expect("the folder is wiped");
    cluster.spawn(3);
    assert_ends(&mut cluster, 3, &["refuses node 3", "wiped or replaced", "--rejoin"]);
    let leader = cluster.wait_for_leader();
    write(&cluster, "meanwhile", 20);

    cluster.rejoin(3);
    cluster.wait_until_caught_up();
    assert_eq!(cluster.wait_for_leader(), leader, "nothing of this disturbs the leader");
    let mut client = cluster.client_with_timeout(Duration::from_secs(2));
    let digests: Vec<_> =
        cluster.ids().iter().map(|&id| client.state(NodeId(id)).expect("a state")["digest"].clone()).collect();
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
    let abstaining = |client: &mut raft::client::Client| -> Vec<u64> {
        let status = client.status_of_all();
        status
            .iter()
            .filter(|(_, status)| status.as_ref().is_ok_and(|node| node.abstains))
            .map(|(node, _)| node.id.0)
            .collect()
    };
    assert_eq!(abstaining(&mut client), [3]);

    // It is not counted, not even after another start without the option.
    cluster.terminate(3);
    cluster.spawn(3);
    cluster.wait_until_caught_up();
    assert_eq!(abstaining(&mut client), [3]);
    let follower = if leader == 1 { 2 } else { 1 };
    cluster.kill(follower);
    for n in 0..3 {
        client.set(format!("alone{n}").as_bytes(), b"v").expect_err("one of three cannot acknowledge anything");
    }
    cluster.spawn(follower);
    cluster.wait_for_leader();
    write(&cluster, "after", 20);
    cluster.wait_until_caught_up();
}

#[test]
fn an_older_copy_of_a_folder_is_refused_however_often_it_starts_and_its_node_can_rejoin() {
    let (mut cluster, older) = with_older_copy();
    // Its next start has the number that the other folder's had, and the ones after that would have later ones.
    replace(&cluster.data_folder(2), &older);
    cluster.spawn(2);
    assert_ends(&mut cluster, 2, &["refuses node 2", "is an older copy", "boot 2", "--rejoin"]);
    for _ in 0..2 {
        cluster.spawn(2);
        assert_ends(&mut cluster, 2, &["is an older copy, as a peer found out", "--rejoin"]);
    }
    cluster.wait_for_leader();
    write(&cluster, "third", 20);
    cluster.rejoin(2);
    cluster.wait_until_caught_up();
}

/// Its starts count up while it reaches nobody, and its processes do not live to be told: in the end its boot is later than any that
/// the others know.
#[test]
fn an_older_copy_is_refused_that_was_started_alone_more_often_than_the_original() {
    let (mut cluster, older) = with_older_copy();
    cluster.terminate(1);
    cluster.terminate(3);
    replace(&cluster.data_folder(2), &older);
    for boot in 2..5 {
        let said = cluster.log(2).len();
        cluster.spawn(2);
        wait_until("it has started", || cluster.log(2)[said..].contains(&format!(": start {boot},")).then_some(()));
        cluster.kill(2);
    }
    cluster.spawn(1);
    cluster.spawn(3);
    cluster.wait_for_leader();
    cluster.spawn(2);
    assert_ends(&mut cluster, 2, &["refuses node 2", "another process was seen in its boot 2", "--rejoin"]);
    cluster.spawn(2);
    assert_ends(&mut cluster, 2, &["is an older copy, as a peer found out", "--rejoin"]);
    cluster.wait_for_leader();
    write(&cluster, "third", 20);
    for prefix in ["first", "second", "third"] {
        let kept = |n| cluster.client().get(format!("{prefix}{n}").as_bytes()).expect("a read").is_some();
        assert!((0..20).all(kept), "what was acknowledged is there");
    }
}

#[test]
pub fn the_folder_of_another_node_is_refused() {
    let mut cluster = Cluster::start(3);
    cluster.wait_for_leader();
    cluster.terminate(1);
    cluster.terminate(2);
    let (one, two) = (cluster.data_folder(1), cluster.data_folder(2));
    let aside = one.with_file_name("aside");
    fs::rename(&one, &aside).expect("set aside");
    copy(&two, &one);
    cluster.spawn(1);
    assert_ends(&mut cluster, 1, &["belongs to node 2, but this node was told 1"]);
    replace(&one, &aside);
    cluster.spawn(1);
    cluster.spawn(2);
    cluster.wait_until_caught_up();
    write(&cluster, "after", 5);
}

#[test]
fn a_second_process_on_a_folder_is_refused_and_the_first_goes_on() {
    let cluster = Cluster::start(3);
    let leader = cluster.wait_for_leader();
    for options in [&["--rejoin"][..], &[]] {
        let mut second = std::process::Command::new(env!("CARGO_BIN_EXE_raft"));
        second.arg("-c").arg(cluster.ini()).args(["-n", &leader.to_string()]).args(options);
        let output = second.output().expect("raft runs");
        assert_eq!(output.status.code(), Some(1));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains("in use by another process"), "{error}");
    }
    write(&cluster, "after", 5);
    assert_eq!(cluster.wait_for_leader(), leader);
}

#[test]
pub fn a_whole_cluster_that_restarts_knows_its_nodes() {
    let mut cluster = Cluster::start(3);
    for round in 0..3 {
        cluster.wait_for_leader();
        write(&cluster, &format!("round{round}-"), 5);
        for id in cluster.ids() {
            cluster.kill(id);
        }
        for id in cluster.ids() {
            cluster.spawn(id);
        }
    }
    cluster.wait_for_leader();
    cluster.wait_until_caught_up();
    // Peers are remembered across restarts of everything: a node that is wiped meanwhile is noticed.
    for id in cluster.ids() {
        cluster.terminate(id);
    }
    fs::remove_dir_all(cluster.data_folder(3)).expect("the folder is wiped");
    for id in cluster.ids() {
        cluster.spawn(id);
    }
    assert_ends(&mut cluster, 3, &["wiped or replaced"]);
    cluster.wait_for_leader();
    let value = cluster.client().get(b"round2-4").expect("a read");
    assert!(value.is_some(), "nothing is lost");
}

/// A folder that is wiped while nobody remembers it cannot be told from a new one: documented.
#[test]
fn blank_folders_everywhere_are_a_new_cluster() {
    let mut cluster = Cluster::start(3);
    cluster.wait_for_leader();
    write(&cluster, "k", 1);
    for id in cluster.ids() {
        cluster.terminate(id);
        fs::remove_dir_all(cluster.data_folder(id)).expect("the folder is wiped");
    }
    for id in cluster.ids() {
        cluster.spawn(id);
    }
    cluster.wait_for_leader();
    assert!(cluster.client().get(b"k0").expect("a read").is_none());
    // Where all rejoin, nobody votes: there is never a leader.
    for id in cluster.ids() {
        cluster.terminate(id);
        cluster.rejoin(id);
    }
    let mut client = cluster.client_with_timeout(Duration::from_secs(2));
    wait_until("all nodes abstain", || {
        client.status_of_all().iter().all(|(_, status)| status.as_ref().is_ok_and(|node| node.abstains)).then_some(())
    });
    client.set(b"k", b"v").expect_err("there is no leader");
}
