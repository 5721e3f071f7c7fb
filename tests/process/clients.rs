//! Client libraries that were not written for us: the `redis` crate and redis-py.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::cluster::Cluster;
use redis::{Commands, ExistenceCheck, SetOptions};

#[test]
pub fn the_redis_crate_finds_redis() {
    let cluster = Cluster::start(3);
    let leader = cluster.wait_for_leader();
    for id in cluster.ids() {
        let mut node = cluster.redis(id);
        let name = |key: &str| format!("{key}-{id}");
        let _: () = node.set(name("k"), "1").expect("SET");
        assert_eq!(node.get::<_, Option<String>>(name("k")).expect("GET").as_deref(), Some("1"));
        assert_eq!(node.get::<_, Option<String>>(name("missing")).expect("GET"), None);
        let only_new = SetOptions::default().conditional_set(ExistenceCheck::NX);
        let set: Option<String> = node.set_options(name("k"), "2", only_new).expect("SET NX");
        assert_eq!(set, None, "the key is there already");
        assert!(node.exists::<_, bool>(name("k")).expect("EXISTS"));
        assert_eq!(node.del::<_, u64>(&[name("k"), name("missing")]).expect("DEL"), 1);

        for n in 0..200 {
            let _: () = node.set(format!("scan-{id}-{n}"), n).expect("SET");
        }
        let pattern = format!("scan-{id}-*");
        let found: Vec<String> = node.scan_match(&pattern).expect("SCAN").map(|key| key.expect("a key")).collect();
        assert_eq!(found.len(), 200);
        assert_eq!(node.keys::<_, Vec<String>>(&pattern).expect("KEYS").len(), 200);

        let (known, label, term): (u64, String, u64) =
            redis::cmd("RAFT").arg("LEADER").query(&mut node).expect("RAFT LEADER");
        assert_eq!((known, label), (leader, crate::support::cluster::label(leader)));
        assert!(term > 0);
        let status: String = redis::cmd("RAFT").arg("STATUS").query(&mut node).expect("RAFT STATUS");
        let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
        assert_eq!(status["id"], id);
    }
    // The same connection speaks RESP3 once it is asked to.
    let url = format!("redis://{}/?protocol=resp3", cluster.client_address(leader));
    let mut node = redis::Client::open(url).expect("a URL").get_connection().expect("RESP3");
    let _: () = node.set("three", "3").expect("SET");
    assert_eq!(node.get::<_, Option<String>>("three").expect("GET").as_deref(), Some("3"));
    assert_eq!(node.get::<_, Option<String>>("none").expect("GET"), None);
}

/// A Python with this module, made once; `Err` says why there is none.
fn python_with(module: &str, package: &str) -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{module}-py"));
    let python = folder.join("bin/python");
    let import = format!("import {module}");
    if Command::new(&python).args(["-c", &import]).output().is_ok_and(|out| out.status.success()) {
        return Ok(python);
    }
    let run = |command: &mut Command| match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Err(error.to_string()),
    };
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", package]))?;
    Ok(python)
}

/// A script of this folder, and the Python that runs it.
pub struct Script {
    python: PathBuf,
    path: PathBuf,
}

impl Script {
    /// A script that needs this module; `None`, and said so, where that cannot be installed.
    pub fn with(module: &str, package: &str, name: &str) -> Option<Script> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/process").join(name);
        match python_with(module, package) {
            Ok(python) => Some(Script { python, path }),
            Err(reason) => {
                println!("skipped: {package} cannot be installed: {reason}");
                None
            }
        }
    }

    /// Runs it with these arguments: it must print `ok`.
    #[track_caller]
    pub fn assert_ok(&self, arguments: &[String]) {
        let output = Command::new(&self.python).arg(&self.path).args(arguments).output().expect("python runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "ok", "{arguments:?}: {stderr}");
    }
}

#[test]
fn redis_py_finds_redis_at_every_node() {
    let Some(script) = Script::with("redis", "redis>=5", "redis_py.py") else { return };
    let cluster = Cluster::start(3);
    cluster.wait_for_leader();
    for id in cluster.ids() {
        let address = cluster.client_address(id);
        script.assert_ok(&[address.ip().to_string(), address.port().to_string()]);
    }
}
