//! Scenarios in files: those that a failure was cut down to, and those that people write.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::scenario::{FaultKind, Scenario};

/// The version of the format. Another one is needed when a scenario that was saved would go another way.
const VERSION: u32 = 1;

/// Most of anything that a scenario counts in milliseconds: a day.
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// A scenario in a file, as JSON, and what is worth knowing of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// The version of the format.
    pub version: u32,
    /// What it shows, or once showed, for people.
    pub shows: String,
    /// The invariant that was broken.
    pub broke: String,
    /// What is simulated.
    pub scenario: Scenario,
}

/// A script that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// The file cannot be read or written.
    #[error("cannot {0} {1}: {2}")]
    File(&'static str, PathBuf, io::Error),
    /// It is not a script.
    #[error("{0} is not a scenario: {1}")]
    Json(PathBuf, serde_json::Error),
    /// It is of another version.
    #[error("{0} is a scenario of version {1}; this program reads version {VERSION}")]
    Version(PathBuf, u64),
    /// It asks for what cannot be simulated.
    #[error("{0} cannot be simulated: {1}")]
    Impossible(PathBuf, String),
}

impl Script {
    /// A script of this scenario, which broke that invariant.
    pub fn new(scenario: Scenario, broke: &str, shows: String) -> Self {
        Script { version: VERSION, shows, broke: broke.into(), scenario }
    }

    /// Reads a script.
    ///
    /// # Errors
    /// The file cannot be read, is of another version, or is not the script of something that can be simulated.
    pub fn load(path: &Path) -> Result<Self, ScriptError> {
        let text = fs::read(path).map_err(|error| ScriptError::File("read", path.into(), error))?;
        let wrong = |error| ScriptError::Json(path.into(), error);
        // Its version first: of another one, nothing else is known.
        let json: serde_json::Value = serde_json::from_slice(&text).map_err(wrong)?;
        match json.get("version").and_then(serde_json::Value::as_u64) {
            Some(other) if other != u64::from(VERSION) => return Err(ScriptError::Version(path.into(), other)),
            _ => {}
        }
        let script: Script = serde_json::from_slice(&text).map_err(wrong)?;
        script.scenario.check().map_err(|problem| ScriptError::Impossible(path.into(), problem))?;
        Ok(script)
    }

    /// Writes it where no file is yet.
    ///
    /// # Errors
    /// The file cannot be written, or is there already.
    pub fn save(&self, path: &Path) -> Result<(), ScriptError> {
        let mut json = serde_json::to_vec_pretty(self).map_err(|error| ScriptError::Json(path.into(), error))?;
        json.push(b'\n');
        let written = fs::File::create_new(path).and_then(|mut file| file.write_all(&json));
        written.map_err(|error| ScriptError::File("write", path.into(), error))
    }
}

impl Scenario {
    /// Whether it can be simulated, and otherwise why not.
    fn check(&self) -> Result<(), String> {
        let Scenario { nodes, clients, settings, load, time_ms, .. } = self;
        let ranges = [
            ("nodes", *nodes, 1, 9),
            ("clients", *clients, 0, 1_000),
            ("time_ms", *time_ms, 0, DAY_MS),
            ("settings.election_timeout_ms", settings.election_timeout_ms, 2, 600_000),
            (
                "settings.heartbeat_interval_ms",
                settings.heartbeat_interval_ms,
                1,
                settings.election_timeout_ms.saturating_sub(1),
            ),
            ("settings.max_inflight_requests", settings.max_inflight_requests, 1, 1 << 20),
            ("settings.max_batch_bytes", settings.max_batch_bytes, 1, 1 << 30),
            ("settings.max_pending_bytes", settings.max_pending_bytes, 1, 1 << 30),
            ("settings.segment_bytes", settings.segment_bytes, 4 << 10, 1 << 30),
            ("settings.chunk_bytes", settings.chunk_bytes, 1, 1 << 20),
            ("load.keys", load.keys, 1, 1 << 20),
            ("load.depth", load.depth, 0, 1 << 20),
            ("load.value_bytes", load.value_bytes, 1, 1 << 20),
            ("load.patience_ms", load.patience_ms, 1, DAY_MS),
            ("load.sessions", load.sessions, 0, 100),
            ("load.queue", load.queue, 0, 100),
            ("load.numbers", load.numbers, 0, 100),
        ];
        for (name, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                return Err(format!("{name} = {value} is not in {least}..={most}"));
            }
        }
        for (number, fault) in self.faults.iter().enumerate() {
            if fault.at_ms > DAY_MS || fault.kind.lasts_ms() > DAY_MS {
                return Err(format!("fault {number} is beyond a day ({DAY_MS} ms)"));
            }
            match fault.kind {
                FaultKind::ClockRate { per_mille: 0, .. } => {
                    return Err(format!("fault {number}: per_mille = 0 would stop the clock"));
                }
                FaultKind::Slow { times, .. } if !(1..=1_000_000).contains(&times) => {
                    return Err(format!("fault {number}: times = {times} is not in 1..=1000000"));
                }
                FaultKind::ClockJumps { by_ms, .. } if by_ms > DAY_MS => {
                    return Err(format!("fault {number}: by_ms = {by_ms} is more than a day ({DAY_MS} ms)"));
                }
                FaultKind::Rush { requests, .. } if requests > 100_000 => {
                    return Err(format!("fault {number}: requests = {requests} is not in 0..=100000"));
                }
                FaultKind::Storm { copies, .. } if copies > 1_000 => {
                    return Err(format!("fault {number}: copies = {copies} is not in 0..=1000"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::scenario::{Profile, Wish};
    use super::*;

    fn script() -> Script {
        let wish = Wish { profile: Profile::Swarm, nodes: None, time_ms: Some(60_000) };
        let mut scenarios = (0..).map(|seed| Scenario::draw(seed, &wish));
        Script::new(scenarios.find(|scenario| scenario.faults.len() > 20).unwrap(), "I1 election safety", "it".into())
    }

    #[test]
    fn what_was_saved_is_read_again_and_nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some.json");
        script().save(&path).unwrap();
        assert_eq!(Script::load(&path).unwrap(), script());
        let again = script().save(&path).unwrap_err().to_string();
        assert!(again.starts_with("cannot write") && again.contains("exists"), "{again}");
    }

    #[test]
    fn whatever_is_drawn_can_be_written_and_read() {
        for time_ms in [Some(0), Some(1_000), None] {
            for seed in 0..500 {
                let scenario = Scenario::draw(seed, &Wish { profile: Profile::Swarm, nodes: None, time_ms });
                assert_eq!(scenario.check(), Ok(()), "seed {seed}");
                assert!(scenario.faults.is_sorted_by_key(|fault| fault.at_ms), "seed {seed}");
            }
        }
    }

    #[test]
    fn mistakes_in_a_script_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some.json");
        let good = serde_json::to_string(&script()).unwrap();
        let cases = [
            ("{", "{ ", "is not a scenario"),
            ("\"version\":1", "\"version\":2", "is a scenario of version 2; this program reads version 1"),
            ("\"shows\":", "\"show\":", "unknown field `show`"),
            ("\"nodes\":", "\"nodes\":1,\"nodez\":", "unknown field `nodez`"),
            ("\"keys\":", "\"keys\":0,\"reads\":50,\"pause_us\":", "duplicate field"),
        ];
        for (from, to, words) in cases {
            let bad = if from == "{" { to.to_owned() } else { good.replacen(from, to, 1) };
            fs::write(&path, bad).unwrap();
            let error = Script::load(&path).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("some.json"), "{error}");
        }
        let mut none = script();
        none.scenario.nodes = 0;
        fs::write(&path, serde_json::to_string(&none).unwrap()).unwrap();
        let error = Script::load(&path).unwrap_err().to_string();
        assert!(error.ends_with("some.json cannot be simulated: nodes = 0 is not in 1..=9"), "{error}");
        let error = Script::load(&folder.path().join("other.json")).unwrap_err().to_string();
        assert!(error.starts_with("cannot read"), "{error}");
    }
}
