//! From a file to a checked configuration.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use super::document::{Document, Entry, Section};
use super::error::{ConfigError, Mistake};
use super::keys::{self, Absent, Key};
use super::{CLIENT_PORT_DISTANCE, Config, HTTP_PORT_DISTANCE, NodeConfig};
use crate::consensus::NodeId;

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`ConfigError::Unreadable`]; or [`ConfigError::Mistakes`] with everything that could be found wrong at once: first
    /// what each line says, and, when that is in order, whether it fits together.
    pub fn load(path: impl AsRef<Path>) -> Result<Config, ConfigError> {
        let path = path.as_ref();
        let bytes = fs::read(path).map_err(|source| ConfigError::Unreadable { path: path.into(), source })?;
        let (document, mut mistakes) = Document::parse(&bytes);
        let (mut config, sections) = read(&document, &mut mistakes);
        match resolve(&config.data_directory, path) {
            Ok(directory) => config.data_directory = directory,
            Err(problem) => {
                let found = config.data_directory.display().to_string();
                mistakes.push(Mistake::of_value("Cluster", "DataDirectory", &found, problem));
            }
        }
        if mistakes.is_empty() {
            mistakes = config.mistakes(&sections);
        }
        if mistakes.is_empty() {
            return Ok(config);
        }
        for mistake in mistakes.iter_mut().filter(|mistake| mistake.line.is_none()) {
            mistake.line = document.line_of(&mistake.section, mistake.key.as_deref());
        }
        mistakes.sort_by_key(|mistake| mistake.line.unwrap_or(usize::MAX));
        Err(ConfigError::Mistakes { path: path.into(), mistakes })
    }
}

/// Every value of the document in its place, and the names of the nodes' sections in the order of the nodes.
fn read(document: &Document, mistakes: &mut Vec<Mistake>) -> (Config, Vec<String>) {
    let mut config = Config::default();
    let listed = listed_nodes(document, mistakes);
    let mut sections = Vec::new();
    for name in &listed {
        let section = format!("Node.{}", name.value);
        match document.section(&section) {
            Some(found) => config.nodes.push(read_node(found, name, mistakes)),
            None => mistakes.push(missing_node(document, name)),
        }
        sections.push(section);
    }
    config.node_count = config.nodes.len();
    for section in &document.sections {
        match section.name.as_str() {
            "Cluster" => fill(section, keys::CLUSTER, &mut config, mistakes),
            "Nodes" => {}
            name if sections.iter().any(|section| section == name) => {}
            name => mistakes.push(Mistake::of_section(name, unexpected_section(name, &sections))),
        }
    }
    (config, sections)
}

/// The entries of `[Nodes]` in the order of their numbers.
fn listed_nodes<'a>(document: &'a Document, mistakes: &mut Vec<Mistake>) -> Vec<&'a Entry> {
    let Some(section) = document.section("Nodes") else {
        let problem = "this section is missing; expected a list of the nodes, as in Node1 = A";
        mistakes.push(Mistake::of_section("Nodes", problem));
        return Vec::new();
    };
    let mut listed: Vec<(u64, &Entry)> = Vec::new();
    for entry in &section.entries {
        let problem = match node_number(&entry.key) {
            None => Some("expected a key that is Node and a number, as in Node1 = A".into()),
            Some(number) => {
                let same = listed.iter().find(|(other, entry2)| *other == number || entry2.value == entry.value);
                same.map(|(_, first)| {
                    format!("{} = {} at line {} lists it already", first.key, first.value, first.line)
                })
            }
        };
        if let Some(problem) = problem {
            mistakes.push(Mistake::of_value("Nodes", &entry.key, &entry.value, problem));
        }
        // One with a wrong key counts too, so that its section is not a mistake as well.
        if listed.iter().all(|(_, other)| other.value != entry.value) {
            listed.push((node_number(&entry.key).unwrap_or(u64::MAX), entry));
        }
    }
    listed.sort_by_key(|(number, _)| *number);
    listed.into_iter().map(|(_, entry)| entry).collect()
}

fn node_number(key: &str) -> Option<u64> {
    let digits = key.strip_prefix("Node").filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok()
}

fn missing_node(document: &Document, name: &Entry) -> Mistake {
    let existing = document.sections.iter().filter_map(|section| section.name.strip_prefix("Node."));
    let problem = format!("there is no section [Node.{}]{}", name.value, suggestion(&name.value, existing));
    Mistake::of_value("Nodes", &name.key, &name.value, problem).at(name.line)
}

fn unexpected_section(name: &str, nodes: &[String]) -> String {
    if name == "Security" {
        return "encryption and authentication are planned, but not supported yet; remove this section".into();
    }
    if name.starts_with("Start.") {
        return "starting from a given state is planned, but not supported yet; remove this section".into();
    }
    let suggestion = suggestion(name, ["Cluster", "Nodes"].into_iter().chain(nodes.iter().map(String::as_str)));
    match name.strip_prefix("Node.") {
        Some(label) if suggestion.is_empty() => {
            let number = nodes.len() + 1;
            format!("[Nodes] does not list this node; add Node{number} = {label} there, or remove this section")
        }
        Some(_) => format!("[Nodes] does not list this node{suggestion}"),
        None => format!("there is no such section{suggestion}; existing: [Cluster], [Nodes], [Node.X]"),
    }
}

fn read_node(section: &Section, name: &Entry, mistakes: &mut Vec<Mistake>) -> NodeConfig {
    let mut node = NodeConfig {
        label: name.value.clone(),
        id: NodeId(0),
        host: String::new(),
        port: 0,
        client_port: 0,
        http_port: 0,
    };
    fill(section, keys::NODE, &mut node, mistakes);
    if node.port > 0 {
        let derived = [
            ("ClientPort", CLIENT_PORT_DISTANCE, &mut node.client_port),
            ("HttpPort", HTTP_PORT_DISTANCE, &mut node.http_port),
        ];
        for (key, distance, port) in derived.into_iter().filter(|(key, ..)| section.entry(key).is_none()) {
            match node.port.checked_add(distance) {
                Some(derived) => *port = derived,
                None => mistakes.push(Mistake::of_value(
                    &section.name,
                    "Port",
                    &node.port.to_string(),
                    format!("{key} would be Port + {distance}, above 65535; choose a lower Port, or give {key}"),
                )),
            }
        }
    }
    node
}

/// Takes a section's values into `target`.
fn fill<T>(section: &Section, keys: &[Key<T>], target: &mut T, mistakes: &mut Vec<Mistake>) {
    for Entry { key: name, value, line } in &section.entries {
        let outcome = match keys.iter().find(|key| key.name == name) {
            Some(key) => {
                key.set(target, value).map_err(|problem| Mistake::of_value(&section.name, name, value, problem))
            }
            None => {
                let existing = keys.iter().map(|key| key.name);
                let problem = match suggestion(name, existing.clone()) {
                    none if none.is_empty() => format!("; existing: {}", existing.collect::<Vec<_>>().join(", ")),
                    suggestion => suggestion,
                };
                Err(Mistake::of_key(&section.name, name, format!("there is no such key{problem}")))
            }
        };
        mistakes.extend(outcome.err().map(|mistake| mistake.at(*line)));
    }
    for key in keys.iter().filter(|key| matches!(key.absent, Absent::Required) && section.entry(key.name).is_none()) {
        let problem = format!("{} is missing; expected {}", key.name, key.allowed());
        mistakes.push(Mistake::of_section(&section.name, problem));
    }
}

/// The known name that was probably meant, as the end of a sentence; empty if none is near.
fn suggestion<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let distance = |known: &str| strsim::damerau_levenshtein(&known.to_lowercase(), &name.to_lowercase());
    known
        .map(|known| (distance(known), known))
        .min()
        .filter(|(distance, known)| *distance <= known.len() / 3)
        .map_or_else(String::new, |(_, known)| format!("; did you mean {known}?"))
}

/// A data folder as raft.ini names it: relative to the folder of raft.ini, with `~` for the home folder.
fn resolve(directory: &Path, file: &Path) -> Result<PathBuf, String> {
    let base = file.parent().unwrap_or(Path::new(""));
    let mut parts = directory.components();
    let first = parts.next().map(|part| part.as_os_str().to_string_lossy().into_owned()).unwrap_or_default();
    let path = match first.as_str() {
        "~" => {
            let home = env::home_dir().ok_or("~ needs a home folder, but the environment has no HOME")?;
            home.join(parts.as_path())
        }
        user if user.starts_with('~') => {
            return Err("other users' home folders are not looked up; expected ~/ or a path".into());
        }
        _ => base.join(directory),
    };
    // Drops the `.` in the middle, as in `etc/./datasets`.
    Ok(path.components().collect())
}
