//! A disk that is really full (T40): the leader's data folder lies on a small file system, which the test fills up. Needs
//! the right to mount one; without it, the reason is printed and nothing is shown.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::Command;

use raft::consensus::NodeId;

use crate::support::cluster::{Cluster, wait_until};

/// A small file system in memory, mounted until it is dropped.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    /// Why not, if it cannot be mounted.
    fn mount(size: &str) -> Result<Self, String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(folder.path());
        let output = mount.output().map_err(|error| format!("cannot run mount: {error}"))?;
        match output.status.success() {
            true => Ok(SmallDisk { folder }),
            false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Takes all the space that is left, and returns how many bytes that was.
    fn fill(&self) -> usize {
        let mut filler = File::create(self.path().join("filler")).expect("a file");
        let mut filled = 0;
        for piece in [64 << 10, 4 << 10] {
            loop {
                match filler.write(&vec![1; piece]) {
                    Ok(bytes) => filled += bytes,
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
                        break;
                    }
                }
            }
        }
        filled
    }

    fn free(&self) {
        fs::remove_file(self.path().join("filler")).expect("the file is there");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

/// Writes these keys, each of which must be acknowledged. An unknown outcome is tried again: the value is the same.
fn write(cluster: &Cluster, keys: std::ops::Range<u32>) {
    let mut client = cluster.client();
    for key in keys {
        while let Err(error) = client.set(format!("key{key}").as_bytes(), &value(key)) {
            assert!(!error.definite(), "key {key}: {error}");
        }
    }
}

fn value(key: u32) -> Vec<u8> {
    format!("{key:0>2000}").into_bytes()
}

fn times(log: &str, words: &str) -> usize {
    log.lines().filter(|line| line.contains(words)).count()
}

#[test]
fn a_leader_whose_disk_is_full_costs_nothing_acknowledged_and_goes_on_when_there_is_space() {
    let disk = match SmallDisk::mount("2m") {
        Ok(disk) => disk,
        Err(reason) => return eprintln!("SKIPPED: no file system can be mounted here: {reason}"),
    };
    let settings = "ElectionTimeout = 500\nHeartbeatInterval = 50\nSegmentBytes = 64 KiB\nSnapshotBytes = 256 KiB\n";
    let mut cluster = Cluster::prepare(5, settings);
    let folder = cluster.data_folder(1);
    fs::create_dir_all(folder.parent().expect("the data directory")).expect("a folder");
    std::os::unix::fs::symlink(disk.path(), &folder).expect("the data folder is on the small disk");
    for id in cluster.ids() {
        cluster.spawn(id);
    }
    cluster.wait_for_leader();
    write(&cluster, 0..20);
    cluster.client().transfer(NodeId(1)).expect("node 1 leads");
    assert_eq!(cluster.wait_for_leader(), 1);
    let process = cluster.pid(1);

    let filled = disk.fill();
    assert!(filled > 200_000, "the disk had room for {filled} bytes more");
    write(&cluster, 20..300);
    let full = |cluster: &Cluster| times(&cluster.log(1), "No space left on device");
    wait_until("the disk is full", || (full(&cluster) > 0).then_some(()));
    let leader = wait_until("somebody else leads", || {
        let mut client = cluster.client();
        client.leader().ok().map(|leader| leader.id).filter(|leader| leader.0 != 1)
    });
    let log = cluster.log(1);
    let told = log.lines().find(|line| line.contains("No space left on device")).expect("it says so");
    let words =
        ["ERROR", "storage: cannot ", &*folder.to_string_lossy(), "Make room on the disk", "acknowledges nothing"];
    words.iter().for_each(|word| assert!(told.contains(word), "{told}: {word}"));
    assert!(log.contains("hands leadership over, for its disk is full"), "{log}");

    // Its peers may restart meanwhile, though it cannot remember their new lives yet; it serves what others have.
    let other = cluster.ids().into_iter().find(|id| *id != 1 && *id != leader.0).expect("another node");
    cluster.kill(other);
    cluster.spawn(other);
    wait_until("it cannot remember a peer's new life", || {
        cluster.log(1).contains(&format!("cannot remember the life of node {other}")).then_some(())
    });
    write(&cluster, 300..400);
    let applied = cluster.client().status(NodeId(1)).expect("node 1 answers").applied;
    let ahead = cluster.client().status(leader).expect("the leader answers").applied;
    assert!(applied < ahead, "node 1 has applied {applied} and the leader {ahead}: the disk was not full");
    let mut through_it = cluster.redis(1);
    let found: Vec<u8> = redis::cmd("GET").arg("key399").query(&mut through_it).expect("it passes requests on");
    assert_eq!(found, value(399));

    disk.free();
    cluster.wait_until_caught_up();
    assert_eq!(cluster.pid(1), process, "it was never restarted");
    assert!(times(&cluster.log(1), "there is space on the disk again") > 0, "{}", cluster.log(1));
    let names = fs::read_dir(&folder).expect("the folder").map(|file| file.expect("a file").file_name());
    let names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    let is_left_over = |name: &String| name.ends_with(".part") || name.ends_with(".snapshot.tmp");
    assert!(!names.iter().any(is_left_over), "{names:?}");
    let mut client = cluster.client();
    for key in 0..400 {
        let found = client.get(format!("key{key}").as_bytes()).expect("a read").expect("an acknowledged key is there");
        assert_eq!(&found.bytes[..], value(key), "key {key}");
    }
    let digests: Vec<_> =
        cluster.ids().iter().map(|&id| client.state(NodeId(id)).expect("a state")["digest"].clone()).collect();
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");

    // It can lead again.
    client.transfer(NodeId(1)).expect("node 1 leads");
    write(&cluster, 400..420);
    assert_eq!(cluster.wait_for_leader(), 1);
}
