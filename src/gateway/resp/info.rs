//! What a node says about itself in words: `INFO`.

use std::fmt::{self, Write};

use bytes::Bytes;

use crate::runtime::NodeStatus;

/// The Redis version whose commands and replies are spoken: client libraries look at it to know what they may send.
pub const REDIS_VERSION: &str = "7.4.0";

type Section = (&'static str, fn(&mut String, &NodeStatus) -> fmt::Result);

const SECTIONS: &[Section] = &[("Server", server), ("Replication", replication), ("Raft", raft)];

/// The sections with these names, in any case; all of them for no name, `all`, `default` or `everything`.
pub fn text(status: &NodeStatus, names: &[Bytes]) -> String {
    let is = |name: &Bytes, other: &str| name.eq_ignore_ascii_case(other.as_bytes());
    let all =
        names.is_empty() || names.iter().any(|name| ["all", "default", "everything"].iter().any(|all| is(name, all)));
    let mut out = String::new();
    for (title, write) in SECTIONS {
        if all || names.iter().any(|name| is(name, title)) {
            let separator = if out.is_empty() { "" } else { "\r\n" };
            // Writing to memory cannot fail.
            let _ = write!(out, "{separator}# {title}\r\n").and_then(|()| write(&mut out, status));
        }
    }
    out
}

fn server(out: &mut String, _: &NodeStatus) -> fmt::Result {
    let version = env!("CARGO_PKG_VERSION");
    write!(out, "redis_version:{REDIS_VERSION}\r\nredis_mode:standalone\r\nraft_version:{version}\r\n")
}

/// To a Redis client every node is a master: each takes reads and writes, and passes them on if it must.
fn replication(out: &mut String, _: &NodeStatus) -> fmt::Result {
    out.write_str("role:master\r\nconnected_slaves:0\r\n")
}

fn raft(out: &mut String, status: &NodeStatus) -> fmt::Result {
    let NodeStatus { id, label, role, term, leader, last, commit, applied, abstains, peers } = status;
    write!(out, "raft_id:{id}\r\nraft_label:{label}\r\nraft_role:{role}\r\nraft_term:{term}\r\n")?;
    match leader {
        Some(leader) => write!(out, "raft_leader:{leader}\r\n")?,
        None => out.write_str("raft_leader:none\r\n")?,
    }
    write!(out, "raft_last:{last}\r\nraft_commit:{commit}\r\nraft_applied:{applied}\r\n")?;
    if *abstains {
        out.write_str("raft_abstains:1\r\n")?;
    }
    for peer in peers {
        let (id, matched, progress, heard_ms) = (peer.id, peer.matched, &peer.progress, peer.heard_ms);
        let abstains = if peer.abstains { ",abstains=1" } else { "" };
        write!(out, "raft_peer{id}:matched={matched},progress={progress},heard_ms={heard_ms}{abstains}\r\n")?;
    }
    Ok(())
}
