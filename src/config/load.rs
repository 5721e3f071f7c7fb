//! From a file to a checked configuration.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use super::document::{Document, Entry, Section};
use super::error::{ConfigError, Mistake};
use super::keys::{self, Absent, Key};
use super::{CLIENT_PORT_DISTANCE, Config, HTTP_PORT_DISTANCE, NodeConfig, Start};
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
        let (document, mistakes) = Document::parse(&bytes);
        refuse(path, &document, mistakes)?;
        let (config, sections, mistakes) = read(&document, path);
        refuse(path, &document, mistakes)?;
        refuse(path, &document, config.mistakes(&sections))?;
        Ok(config)
    }
}

/// An error if there are mistakes, in order of their lines.
fn refuse(path: &Path, document: &Document, mut mistakes: Vec<Mistake>) -> Result<(), ConfigError> {
    for mistake in mistakes.iter_mut().filter(|mistake| mistake.line.is_none()) {
        mistake.line = document.line_of(&mistake.section, mistake.key.as_deref());
    }
    mistakes.sort_by_key(|mistake| mistake.line.unwrap_or(usize::MAX));
    match mistakes.is_empty() {
        true => Ok(()),
        false => Err(ConfigError::Mistakes { path: path.into(), mistakes }),
    }
}

/// Every value of the document in its place, the names of the nodes' sections in the order of the nodes, and what is
/// wrong with single values.
fn read(document: &Document, path: &Path) -> (Config, Vec<String>, Vec<Mistake>) {
    let mut config = Config::default();
    let mut mistakes = Vec::new();
    let listed = listed_nodes(document, &mut mistakes);
    let sections: Vec<_> = listed.iter().map(|entry| format!("Node.{}", entry.value)).collect();
    for (entry, section) in listed.into_iter().zip(&sections) {
        match document.section(section) {
            Some(found) => {
                let mut node = read_node(found, entry, &mut mistakes);
                node.start = document.section(&format!("Start.{}", entry.value)).map(|section| {
                    let mut start = Start::default();
                    fill(section, keys::START, &mut start, &mut mistakes);
                    start
                });
                config.nodes.push(node);
            }
            None => mistakes.push(missing_node(document, entry, &sections)),
        }
    }
    config.node_count = config.nodes.len();
    for section in &document.sections {
        match section.name.as_str() {
            "Cluster" => fill(section, keys::CLUSTER, &mut config, &mut mistakes),
            "Nodes" => {}
            name if sections.iter().any(|section| section == name) => {}
            name if listed_start(name, &sections) => {}
            name => mistakes.push(Mistake::of_section(name, unexpected_section(document, name, &sections))),
        }
    }
    match resolve(&config.data_directory, path) {
        Ok(directory) => config.data_directory = directory,
        Err(problem) => {
            let found = config.data_directory.display().to_string();
            mistakes.push(Mistake::of_value("Cluster", "DataDirectory", &found, problem));
        }
    }
    (config, sections, mistakes)
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
        let number = node_number(&entry.key);
        let first = listed.iter().find(|(other, first)| Some(*other) == number || first.value == entry.value);
        let problem = match (number, first) {
            (None, _) => Some("expected a key that is Node and a number, as in Node1 = A".into()),
            (_, Some((_, first))) => {
                Some(format!("{} = {} at line {} lists it already", first.key, first.value, first.line))
            }
            (Some(_), None) => None,
        };
        // One with a wrong key counts too, so that its section is not a mistake as well.
        if first.is_none_or(|(_, first)| first.value != entry.value) {
            listed.push((number.unwrap_or(u64::MAX), entry));
        }
        mistakes.extend(problem.map(|problem: String| Mistake::of_value("Nodes", &entry.key, &entry.value, problem)));
    }
    listed.sort_by_key(|(number, _)| *number);
    listed.into_iter().map(|(_, entry)| entry).collect()
}

fn node_number(key: &str) -> Option<u64> {
    let digits = key.strip_prefix("Node").filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok()
}

fn missing_node(document: &Document, entry: &Entry, listed: &[String]) -> Mistake {
    let wanted = format!("Node.{}", entry.value);
    let names = document.sections.iter().map(|section| section.name.as_str());
    let unlisted = names.filter(|name| name.starts_with("Node.") && !listed.iter().any(|listed| listed == name));
    let problem = match nearest(&wanted, unlisted) {
        Some(name) => format!("there is no section [{wanted}]; did you mean [{name}]?"),
        None => format!("there is no section [{wanted}]; add it, or remove this line"),
    };
    Mistake::of_value("Nodes", &entry.key, &entry.value, problem)
}

/// Whether this is the section of a listed node's start.
fn listed_start(name: &str, listed: &[String]) -> bool {
    name.strip_prefix("Start.").is_some_and(|label| listed.iter().any(|node| *node == format!("Node.{label}")))
}

fn unexpected_section(document: &Document, name: &str, listed: &[String]) -> String {
    if name == "Security" {
        return "encryption and authentication are planned, but not supported yet; remove this section".into();
    }
    if let Some(label) = name.strip_prefix("Start.") {
        return format!("[Nodes] does not list a node {label}; expected the X of a section [Node.X]");
    }
    let missing = listed.iter().map(String::as_str).filter(|name| document.section(name).is_none());
    let nearest = nearest(name, ["Cluster", "Nodes"].into_iter().chain(missing));
    match (name.strip_prefix("Node."), nearest) {
        (Some(_), Some(nearest)) => format!("[Nodes] does not list this node; did you mean [{nearest}]?"),
        (None, Some(nearest)) => format!("there is no such section; did you mean [{nearest}]?"),
        (Some(label), None) => {
            let number = listed.len() + 1;
            format!("[Nodes] does not list this node; add Node{number} = {label} there, or remove this section")
        }
        (None, None) => "there is no such section; existing: [Cluster], [Nodes], [Node.X], [Start.X]".into(),
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
        start: None,
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
    let before = mistakes.len();
    for Entry { key: name, value, .. } in &section.entries {
        let outcome = match keys.iter().find(|key| key.name == name) {
            Some(key) => {
                key.set(target, value).map_err(|problem| Mistake::of_value(&section.name, name, value, problem))
            }
            None => Err(Mistake::of_key(&section.name, name, unknown_key(name, keys))),
        };
        mistakes.extend(outcome.err());
    }
    // One that is missing may be one that is misspelt, which has been said already.
    if mistakes.len() == before {
        let required = keys.iter().filter(|key| matches!(key.absent, Absent::Required));
        mistakes.extend(required.filter(|key| section.entry(key.name).is_none()).map(|key| {
            let problem = format!("{} is missing; expected {}", key.name, key.allowed());
            Mistake::of_section(&section.name, problem)
        }));
    }
}

fn unknown_key<T>(name: &str, keys: &[Key<T>]) -> String {
    let existing: Vec<_> = keys.iter().map(|key| key.name).collect();
    match nearest(name, existing.iter().copied()) {
        Some(nearest) => format!("there is no such key; did you mean {nearest}?"),
        None => format!("there is no such key; existing: {}", existing.join(", ")),
    }
}

/// The known name that was probably meant.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |known: &str| strsim::damerau_levenshtein(&known.to_lowercase(), &name.to_lowercase());
    let (distance, nearest) = known.map(|known| (distance(known), known)).min()?;
    (distance <= nearest.len() / 3).then_some(nearest)
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
