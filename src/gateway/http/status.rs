//! How the node and its cluster are, and all that they hold.

use std::sync::Arc;

use axum::http::StatusCode;
use bytes::Bytes;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::Gateway;
use super::answer::{Answered, Refusal, json};
use super::node::decoded;
use super::request::Call;
use super::text::{self, Text};
use crate::consensus::{NodeId, Role};
use crate::machine::command::{Answer, MAX_VIEW_BYTES, Query, Value};
use crate::runtime::{NodeStatus, PeerStatus};
use crate::transport::Failure;

/// `GET /status`.
#[derive(Serialize)]
struct Status<'a> {
    role: &'static str,
    term: u64,
    id: u64,
    label: &'a str,
    leader: Option<Named<'a>>,
    last: u64,
    commit: u64,
    applied: u64,
    abstains: bool,
    peers: Vec<Peer<'a>>,
}

#[derive(Serialize)]
struct Named<'a> {
    id: u64,
    label: &'a str,
}

#[derive(Serialize)]
struct Peer<'a> {
    id: u64,
    label: &'a str,
    matched: u64,
    progress: &'a str,
    heard_ms: u64,
    abstains: bool,
}

pub async fn status(gateway: Arc<Gateway>, _call: Call) -> Answered {
    let status = gateway.status().await?;
    Ok(json(&gateway, StatusCode::OK, &Status::of(&gateway, &status)))
}

impl<'a> Status<'a> {
    fn of(gateway: &'a Gateway, status: &'a NodeStatus) -> Self {
        let named = |id: NodeId| Named { id: id.0, label: gateway.label(id) };
        let peer = |peer: &'a PeerStatus| Peer {
            id: peer.id.0,
            label: gateway.label(peer.id),
            matched: peer.matched,
            progress: &peer.progress,
            heard_ms: peer.heard_ms,
            abstains: peer.abstains,
        };
        Status {
            role: role(status.role),
            term: status.term,
            id: status.id.0,
            label: &status.label,
            leader: status.leader.map(named),
            last: status.last,
            commit: status.commit,
            applied: status.applied,
            abstains: status.abstains,
            peers: status.peers.iter().map(peer).collect(),
        }
    }
}

/// The role's name. That a candidate first asks whether it could win is nobody's business.
pub fn role(role: Role) -> &'static str {
    match role {
        Role::Leader => "Leader",
        Role::PreCandidate | Role::Candidate => "Candidate",
        Role::Follower => "Follower",
    }
}

/// `GET /force-view-state-machine`.
#[derive(Serialize)]
struct View {
    success: bool,
    applied: u64,
    topics: Topics,
    kv: Values,
}

/// By name, in order of creation.
struct Topics(Vec<(Bytes, Vec<Bytes>)>);

/// By key.
struct Values(Vec<(Bytes, Value)>);

impl Serialize for Topics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, messages) in &self.0 {
            let messages: Vec<Text> = messages.iter().cloned().map(Text).collect();
            map.serialize_entry(&text::name(name), &messages)?;
        }
        map.end()
    }
}

impl Serialize for Values {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (text::name(key), Text(value.bytes.clone()))))
    }
}

pub async fn force_view(gateway: Arc<Gateway>, call: Call) -> Answered {
    let _one = gateway.view.lock().await;
    let answer = gateway.local_read(call.client.connection, Query::View).await?;
    // It may be large, and others are served by this thread.
    let shared = Arc::clone(&gateway);
    let written = tokio::task::spawn_blocking(move || match decoded(&answer)? {
        Answer::View { applied, topics, items } => {
            let view = View { success: true, applied, topics: Topics(topics), kv: Values(items) };
            Ok(json(&shared, StatusCode::OK, &view))
        }
        Answer::TooLarge => {
            let message = format!("the state has more than {} MiB", MAX_VIEW_BYTES >> 20);
            Err(Refusal::new(StatusCode::INSUFFICIENT_STORAGE, "answer_too_large", message))
        }
        _ => Err(Refusal::another()),
    });
    written.await.unwrap_or_else(|_| Err(Refusal::unreadable("it could not be written")))
}

/// `GET /health`.
#[derive(Serialize)]
struct Health<'a> {
    success: bool,
    role: &'static str,
    leader: Option<Named<'a>>,
}

/// Healthy is a node that gets a linearizable read answered: it leads, or reaches who does.
pub async fn health(gateway: Arc<Gateway>, call: Call) -> Answered {
    if let Err(refusal) = gateway.read(call.client.connection, Query::Size).await {
        let Refusal { message, .. } = refusal;
        return Err(Failure::NotReady(message).into());
    }
    let status = gateway.status().await?;
    let Status { role, leader, .. } = Status::of(&gateway, &status);
    Ok(json(&gateway, StatusCode::OK, &Health { success: true, role, leader }))
}
