//! Whether the values of a configuration fit together.

use std::net::IpAddr;
use std::path::PathBuf;

use super::error::{ConfigError, Mistake};
use super::keys::{self, Key};
use super::{Config, NodeConfig};

impl Config {
    /// Checks a configuration that was made or changed by a program, as [`Config::load`] checks a file.
    ///
    /// # Errors
    /// [`ConfigError::Mistakes`] with all that is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        let sections: Vec<_> = self.nodes.iter().map(|node| format!("Node.{}", node.label)).collect();
        match self.mistakes(&sections) {
            mistakes if mistakes.is_empty() => Ok(()),
            mistakes => Err(ConfigError::Mistakes { path: PathBuf::from("configuration"), mistakes }),
        }
    }

    /// Refuses a cluster that other machines could reach, unless that is wanted (`--insecure`): nothing protects it yet.
    /// Called where a node is started.
    ///
    /// # Errors
    /// [`ConfigError::Exposed`] naming the first node whose `Host` is not certainly a loopback address.
    pub fn check_exposure(&self, insecure: bool) -> Result<(), ConfigError> {
        match self.nodes.iter().find(|node| !is_loopback(&node.host)) {
            Some(node) if !insecure => Err(ConfigError::Exposed { label: node.label.clone(), host: node.host.clone() }),
            _ => Ok(()),
        }
    }

    /// All that is wrong, without lines. `sections` are the names of the nodes' sections.
    pub(super) fn mistakes(&self, sections: &[String]) -> Vec<Mistake> {
        if self.nodes.is_empty() {
            return vec![Mistake::of_section("Nodes", "expected at least one node, as in Node1 = A")];
        }
        let mut mistakes = out_of_range("Cluster", keys::CLUSTER, self);
        for (node, section) in self.nodes.iter().zip(sections) {
            mistakes.extend(out_of_range(section, keys::NODE, node));
            if let Some(start) = &node.start {
                mistakes.extend(out_of_range(&section.replacen("Node.", "Start.", 1), keys::START, start));
            }
        }
        mistakes.extend(self.cluster_mistakes());
        mistakes.extend(self.node_mistakes(sections));
        mistakes.extend(self.start_mistakes(sections));
        mistakes
    }

    /// Values of `[Cluster]` that do not go together.
    fn cluster_mistakes(&self) -> Vec<Mistake> {
        let value =
            |name: &str| keys::CLUSTER.iter().find(|key| key.name == name).map_or(String::new(), |key| key.get(self));
        let checks = [
            (
                self.node_count > self.nodes.len(),
                "NodeCount",
                format!("expected at most {}, the number of nodes in [Nodes]", self.nodes.len()),
            ),
            (
                self.heartbeat_interval >= self.election_timeout,
                "HeartbeatInterval",
                format!(
                    "expected less than ElectionTimeout ({}), best a fifth of it: followers have to hear the leader in time",
                    value("ElectionTimeout")
                ),
            ),
            (
                self.min_replication_interval > self.heartbeat_interval,
                "MinReplicationInterval",
                format!("expected at most HeartbeatInterval ({})", value("HeartbeatInterval")),
            ),
            (
                self.limits.max_request_bytes > self.limits.max_inflight_bytes,
                "MaxRequestBytes",
                format!(
                    "expected at most MaxInflightBytes ({}): a larger request could never be accepted",
                    value("MaxInflightBytes")
                ),
            ),
        ];
        let wrong = checks.into_iter().filter(|(wrong, ..)| *wrong);
        wrong.map(|(_, name, problem)| Mistake::of_value("Cluster", name, &value(name), problem)).collect()
    }

    /// What no two nodes may share.
    fn node_mistakes(&self, sections: &[String]) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        let mut taken: Vec<(Resource, String)> = Vec::new();
        for (node, section) in self.nodes.iter().zip(sections) {
            let mut port_taken = false;
            for (name, value, resource) in resources(node) {
                let is_port = matches!(resource, Resource::Port(..));
                match taken.iter().find(|(other, _)| *other == resource) {
                    // The first says enough: the others usually follow from it.
                    Some(_) if is_port && port_taken => {}
                    Some((_, by)) => {
                        let problem = format!("this is {by} already; {}", resource.rule());
                        mistakes.push(Mistake::of_value(section, name, &value, problem));
                        port_taken |= is_port;
                    }
                    None => taken.push((resource, format!("the {name} of [{section}]"))),
                }
            }
        }
        mistakes
    }
}

/// What a node has for itself.
#[derive(PartialEq)]
enum Resource {
    Id(u64),
    /// In lower case: some file systems take `a` and `A` for the same folder.
    Label(String),
    Port(String, u16),
}

impl Resource {
    fn rule(&self) -> &'static str {
        match self {
            Resource::Id(_) => "every node needs an id of its own",
            Resource::Label(_) => "every node needs a label of its own, in whatever case",
            Resource::Port(..) => "every port of a host can be used once",
        }
    }
}

/// The keys of a node whose values nobody else may have: name, value, and what counts as the same.
fn resources(node: &NodeConfig) -> [(&'static str, String, Resource); 5] {
    let port = |name, port: u16| (name, port.to_string(), Resource::Port(same_host(&node.host), port));
    [
        ("Label", node.label.clone(), Resource::Label(node.label.to_lowercase())),
        ("Id", node.id.to_string(), Resource::Id(node.id.0)),
        port("Port", node.port),
        port("ClientPort", node.client_port),
        port("HttpPort", node.http_port),
    ]
}

/// Equal for hosts that are the same, as far as that can be told without looking them up.
fn same_host(host: &str) -> String {
    match (host.parse::<IpAddr>(), host.to_lowercase()) {
        (Ok(address), _) => address.to_string(),
        (Err(_), name) if name == "localhost" => "127.0.0.1".into(),
        (Err(_), name) => name,
    }
}

/// Whether this is certainly an address that other machines cannot reach. Names are not looked up.
fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Values that a file could not have.
fn out_of_range<T: Clone>(section: &str, keys: &[Key<T>], values: &T) -> Vec<Mistake> {
    let check = |key: &Key<T>| {
        let text = key.get(values);
        let problem = key.set(&mut values.clone(), &text).err()?;
        Some(Mistake::of_value(section, key.name, &text, problem))
    };
    keys.iter().filter_map(check).collect()
}
