//! From a configuration to a commented file, and the explanation of a key.

use std::fmt::Write;

use super::keys::{self, Absent, Key};
use super::{Config, NodeConfig, Start};

/// What there is to know about a key of raft.ini.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyHelp {
    /// The section: `Cluster`, `Nodes`, `Node.X` or `Start.X`.
    pub section: &'static str,
    /// The key.
    pub name: &'static str,
    /// What holds without it; `None`: it must be there.
    pub default: Option<String>,
    /// Which values are allowed, in words.
    pub allowed: String,
    /// What it does: a paragraph.
    pub explanation: String,
}

/// All keys of raft.ini, in the order of [`Config::to_ini`].
pub fn key_help() -> Vec<KeyHelp> {
    let nodes = KeyHelp {
        section: "Nodes",
        name: keys::NODES_KEY,
        default: None,
        allowed: keys::NODES_ALLOWED.into(),
        explanation: paragraph(keys::NODES_SUMMARY, keys::NODES_DETAILS),
    };
    let cluster = keys::CLUSTER.iter().map(|key| help("Cluster", key, &Config::default()));
    let node = keys::NODE.iter().map(|key| help("Node.X", key, &NodeConfig::local(1)));
    let start = keys::START.iter().map(|key| help("Start.X", key, &Start::default()));
    cluster.chain([nodes]).chain(node).chain(start).collect()
}

fn help<T>(section: &'static str, key: &Key<T>, defaults: &T) -> KeyHelp {
    let default = match key.absent {
        Absent::Default => Some(key.get(defaults)),
        Absent::Derived(rule) => Some(rule.into()),
        Absent::Required => None,
    };
    let explanation = paragraph(key.summary, key.details);
    KeyHelp { section, name: key.name, default, allowed: key.allowed(), explanation }
}

fn paragraph(summary: &str, details: &str) -> String {
    let mut text: String = summary.chars().take(1).flat_map(char::to_uppercase).collect();
    text.extend(summary.chars().skip(1));
    text.push_str(". ");
    text.push_str(details);
    text.trim_end().into()
}

impl Config {
    /// The configuration as a commented file, from which [`Config::load`] makes the same.
    pub fn to_ini(&self) -> String {
        let mut text = header(self.nodes.len());
        text.push_str("\n[Cluster]\n");
        for key in keys::CLUSTER {
            line(&mut text, key.name, &key.get(self), key.summary);
        }
        let _ = writeln!(text, "\n;; {}\n[Nodes]", paragraph(keys::NODES_SUMMARY, "").trim_end_matches('.'));
        for (number, node) in self.nodes.iter().enumerate() {
            let _ = writeln!(text, "Node{} = {}", number + 1, node.label);
        }
        for node in &self.nodes {
            let _ = writeln!(text, "\n[Node.{}]", node.label);
            for key in keys::NODE {
                line(&mut text, key.name, &key.get(node), key.summary);
            }
        }
        let starts = self.nodes.iter().filter_map(|node| Some((&node.label, node.start.as_ref()?)));
        for (label, start) in starts {
            let _ = writeln!(text, "\n[Start.{label}]");
            for (key, value) in
                keys::START.iter().map(|key| (key, key.get(start))).filter(|(_, value)| !value.is_empty())
            {
                line(&mut text, key.name, &value, key.summary);
            }
        }
        text
    }
}

fn header(nodes: usize) -> String {
    let nodes = if nodes == 1 { "one node".into() } else { format!("{nodes} nodes") };
    format!(
        "\
;; A cluster of {nodes}. To run it,
;;   all nodes in one terminal, with a shell:   raft cluster -c raft.ini
;;   or each node in a terminal of its own:     raft -c raft.ini -n 1
;;   and a shell in one more:                   raft-shell -c raft.ini
;; Both programs are in target/release after `cargo build --release`.
;;
;; Comments begin with ; and may stand behind a value. Times are in milliseconds where the name does not say otherwise, sizes in
;; bytes, KiB or MiB. `raft help ElectionTimeout` says more about a key. What is left out has its default.
"
    )
}

/// `Name = value ; comment`, the comments below each other.
fn line(text: &mut String, name: &str, value: &str, comment: &str) {
    // What would be cut off as a comment, or taken for a quoted value, is quoted.
    let plain = !value.contains(';') && !value.starts_with(['"', '\'']) && value.trim() == value;
    let quote = match plain {
        true => "",
        false if value.contains('"') => "'",
        false => "\"",
    };
    let assignment = format!("{name} = {quote}{value}{quote}");
    let _ = writeln!(text, "{assignment:<32} ; {comment}");
}
