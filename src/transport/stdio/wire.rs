//! Messages between nodes as lines of readable JSON, with the field names of the Maelstrom guide and of the Raft paper.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Not;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Names;
use super::op::Op;
use crate::consensus::{
    AppendEntries, EntryHeader, Index, LogTime, Message, MessageBody, NodeId, Payload, SessionSequence, SnapshotMeta,
    Term,
};
use crate::runtime::{Input, Life, NodeHandle};
use crate::storage::{PeerMemory, Start};
use crate::transport::lives::{NotAdmitted, PeerLives};
use crate::transport::transfer::{Offer, Progress};
use crate::transport::{Failure, Forward, ForwardKind, PeerMessage};

/// Longest text of the bytes of a part of a snapshot.
const CHUNK_TEXT_BYTES: usize = 64 << 10;
/// Most bytes in one.
pub const CHUNK_BYTES: usize = CHUNK_TEXT_BYTES / 4 * 3;

/// Encodes and decodes the messages of one node. Shared by those who send and those who receive.
pub struct Wire {
    names: Names,
    lives: Mutex<Lives>,
}

/// This node's life, and its peers' latest. Of two lives of a node the one with the larger boot number is the later.
#[derive(Default)]
struct Lives {
    own: Life,
    peers: BTreeMap<NodeId, Life>,
    folder: Option<Folder>,
}

/// What the node's data folder remembers of its peers, and who has to stop should the disk fail.
struct Folder {
    lives: PeerLives,
    node: NodeHandle,
    /// The life of each peer that was refused last.
    refused: BTreeMap<NodeId, Life>,
}

/// A message that arrived.
#[derive(Debug, PartialEq, Eq)]
pub struct Received {
    /// The sender's life.
    pub life: Life,
    /// What it says.
    pub said: Said,
}

/// What a node says to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A message for the node.
    Message(PeerMessage),
    /// A part of a snapshot.
    Chunk(Chunk),
    /// What the receiver of a snapshot of this index says to its parts.
    ChunkAnswer(Index, Result<Progress, String>),
}

/// A part of a snapshot; without bytes it only offers the snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// What is sent.
    pub offer: Offer,
    /// Where in it the bytes belong.
    pub offset: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Wire {
    /// For the node that `names` says it is.
    pub fn new(names: Names) -> Self {
        Wire { names, lives: Mutex::default() }
    }

    /// The nodes' names.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Tells this node's present life, before anything is encoded or decoded.
    pub fn begin_life(&self, life: Life) {
        self.lives().own = life;
    }

    /// From now on, what is accepted of peers' lives is what follows this memory, in the data folder of this node.
    pub fn remember_peers(&self, memory: PeerMemory, node: NodeHandle) {
        self.lives().folder = Some(Folder { lives: PeerLives::new(memory), node, refused: BTreeMap::new() });
    }

    /// Appends a message for `to` as one line. Fails, saying why, if it cannot be put in words.
    pub fn encode(&self, to: NodeId, message: &PeerMessage, out: &mut Vec<u8>) -> Result<(), String> {
        let to_life = match message {
            PeerMessage::ForwardReply { life, .. } => Some(*life),
            _ => None,
        };
        self.encode_body(to, Body::of(message, &self.names)?, to_life, out)
    }

    /// Appends a part of a snapshot for `to` as one line.
    pub fn encode_chunk(&self, to: NodeId, chunk: &Chunk, out: &mut Vec<u8>) -> Result<(), String> {
        self.encode_body(to, Body::InstallSnapshotChunk(WireChunk::of(chunk, &self.names)?), None, out)
    }

    /// Appends an answer to a part of a snapshot, for `to`, as one line.
    pub fn encode_chunk_answer(
        &self,
        to: NodeId,
        index: Index,
        answer: Result<Progress, String>,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        let (offset, complete) = answer.as_ref().map_or((0, false), |answer| (answer.received, answer.complete));
        let body = InstallSnapshotChunkRes {
            last_included_index: Exact(index.0),
            offset: Exact(offset),
            complete,
            error: answer.err(),
        };
        self.encode_body(to, Body::InstallSnapshotChunkRes(body), None, out)
    }

    fn encode_body(&self, to: NodeId, body: Body<'_>, to_life: Option<Life>, out: &mut Vec<u8>) -> Result<(), String> {
        let dest = self.names.name(to).ok_or_else(|| format!("node {to} has no name"))?;
        let lives = self.lives();
        // An answer is for the life that asked. A request is not: whom it reaches for the first time is unknown.
        let to_life = to_life.or_else(|| lives.peers.get(&to).copied().filter(|_| body.is_answer()));
        let (life, to_life) = (lives.own.into(), to_life.map(WireLife::from));
        let line = Line { src: self.names.my_name(), dest, body: Lived { message: body, life, to_life } };
        serde_json::to_writer(&mut *out, &line).map_err(|error| error.to_string())?;
        out.push(b'\n');
        Ok(())
    }

    /// Decodes the body of a message from `from`. Fails, saying what is wrong, if it makes no sense. `None`: it belongs to
    /// an earlier life of the sender, or one that does not follow what is remembered of it, or answers an earlier life of
    /// this node.
    pub fn decode(&self, from: NodeId, body: &RawValue) -> Result<Option<Received>, String> {
        let head: Head<'_> = parse(body)?;
        let life = Life::try_from(head.life)?;
        let to_life = head.to_life.map(Life::try_from).transpose()?;
        let said = Body::parse(&head.kind, body)?.into_said(from, to_life, &self.names)?;
        let mut lives = self.lives();
        let is_current = lives.admit(from, life) && to_life.is_none_or(|to_life| to_life == lives.own);
        Ok(is_current.then_some(Received { life, said }))
    }

    fn lives(&self) -> MutexGuard<'_, Lives> {
        self.lives.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lives {
    /// Whether this is the latest life of the peer, as far as this node knows. If it is, no earlier one will be.
    fn admit(&mut self, peer: NodeId, life: Life) -> bool {
        let is_latest = match self.peers.get(&peer) {
            Some(latest) if *latest == life => return true,
            latest => latest.is_none_or(|latest| life.boot > latest.boot),
        };
        let admitted = match &mut self.folder {
            Some(folder) => folder.admit(peer, life),
            None => is_latest,
        };
        if admitted {
            self.peers.insert(peer, life);
        }
        admitted
    }
}

impl Folder {
    /// Whether the life follows the one that is remembered of this peer; it is remembered itself then. Warns once of one
    /// that does not.
    fn admit(&mut self, peer: NodeId, life: Life) -> bool {
        // Lines carry no nonces: two processes of one life are not told apart.
        let Err(refusal) = self.lives.admit(peer, &Start { life, nonce: 0 }.into(), false) else { return true };
        match &refusal {
            NotAdmitted::NotRemembered { error, .. } if !error.is_full() => {
                self.node.deliver(Input::Failed { reason: refusal.to_string() });
            }
            _ if self.refused.insert(peer, life) == Some(life) => {}
            NotAdmitted::OlderBoot { .. } => log::info!("ignored messages that were late, unless {refusal}"),
            _ => log::warn!("messages of node {peer} are ignored: {refusal}"),
        }
        false
    }
}

fn parse<'a, T: Deserialize<'a>>(body: &'a RawValue) -> Result<T, String> {
    serde_json::from_str(body.get()).map_err(|error| error.to_string())
}

#[derive(Serialize)]
struct Line<'a> {
    src: &'a str,
    dest: &'a str,
    body: Lived<'a>,
}

#[derive(Serialize)]
struct Lived<'a> {
    #[serde(flatten)]
    message: Body<'a>,
    life: WireLife,
    #[serde(skip_serializing_if = "Option::is_none")]
    to_life: Option<WireLife>,
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    life: WireLife,
    to_life: Option<WireLife>,
}

/// Incarnation, in hexadecimal because not all JSON software keeps 64 bits of a number, and boot.
#[derive(Serialize, Deserialize)]
struct WireLife(String, Exact);

impl From<Life> for WireLife {
    fn from(life: Life) -> Self {
        WireLife(format!("{:x}", life.incarnation), Exact(life.boot))
    }
}

impl TryFrom<WireLife> for Life {
    type Error = String;

    fn try_from(WireLife(incarnation, boot): WireLife) -> Result<Self, String> {
        let incarnation = u64::from_str_radix(&incarnation, 16).map_err(|error| format!("`life`: {error}"))?;
        Ok(Life { incarnation, boot: boot.0 })
    }
}

/// A term, an index or another count. Small enough that JSON software that calculates with doubles keeps it, and that
/// adding to it never overflows.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
struct Exact(u64);

impl Exact {
    const MAX: u64 = 1 << 53;
}

impl TryFrom<u64> for Exact {
    type Error = String;

    fn try_from(number: u64) -> Result<Self, String> {
        if number <= Exact::MAX { Ok(Exact(number)) } else { Err(format!("{number} is larger than 2^53")) }
    }
}

impl From<Exact> for u64 {
    fn from(Exact(number): Exact) -> u64 {
        number
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Body<'a> {
    RequestVote(RequestVote<'a>),
    RequestVoteRes(RequestVoteRes),
    AppendEntries(WireAppend<'a>),
    AppendEntriesRes(AppendEntriesRes),
    InstallSnapshot(InstallSnapshot<'a>),
    InstallSnapshotRes(InstallSnapshotRes),
    InstallSnapshotChunk(WireChunk<'a>),
    InstallSnapshotChunkRes(InstallSnapshotChunkRes),
    TimeoutNow(TimeoutNow<'a>),
    AskTerm(WireTerm),
    TellTerm(WireTerm),
    Forward(WireForward),
    ForwardRes(ForwardRes),
}

#[derive(Serialize, Deserialize)]
struct RequestVote<'a> {
    term: Exact,
    #[serde(borrow)]
    candidate_id: Cow<'a, str>,
    last_log_index: Exact,
    last_log_term: Exact,
    pre_vote: bool,
    transfer: bool,
}

#[derive(Serialize, Deserialize)]
struct RequestVoteRes {
    term: Exact,
    vote_granted: bool,
    pre_vote: bool,
}

#[derive(Serialize, Deserialize)]
struct WireAppend<'a> {
    term: Exact,
    #[serde(borrow)]
    leader_id: Cow<'a, str>,
    prev_log_index: Exact,
    prev_log_term: Exact,
    leader_commit: Exact,
    round: Exact,
    entries: Vec<WireEntry>,
}

#[derive(Serialize, Deserialize)]
struct WireEntry {
    index: Exact,
    term: Exact,
    time: Exact,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<(u64, u64)>,
    op: Op,
}

/// With `match_index` on success, and with the three after it otherwise.
#[derive(Serialize, Deserialize)]
struct AppendEntriesRes {
    term: Exact,
    success: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    match_index: Option<Exact>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prev_log_index: Option<Exact>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hint_index: Option<Exact>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hint_term: Option<Exact>,
    round: Exact,
    #[serde(default, skip_serializing_if = "Not::not")]
    abstains: bool,
}

#[derive(Serialize, Deserialize)]
struct InstallSnapshot<'a> {
    term: Exact,
    #[serde(borrow)]
    leader_id: Cow<'a, str>,
    last_included_index: Exact,
    last_included_term: Exact,
    time: Exact,
    membership: Op,
}

#[derive(Serialize, Deserialize)]
struct InstallSnapshotRes {
    term: Exact,
    match_index: Exact,
    #[serde(default, skip_serializing_if = "Not::not")]
    abstains: bool,
}

/// A part of the snapshot's file; `bytes` is the size of all of it.
#[derive(Serialize, Deserialize)]
struct WireChunk<'a> {
    term: Exact,
    #[serde(borrow)]
    leader_id: Cow<'a, str>,
    last_included_index: Exact,
    last_included_term: Exact,
    time: Exact,
    membership: Op,
    bytes: Exact,
    offset: Exact,
    #[serde(borrow)]
    data: Cow<'a, str>,
    done: bool,
}

/// How much has arrived, or why no more is taken.
#[derive(Serialize, Deserialize)]
struct InstallSnapshotChunkRes {
    last_included_index: Exact,
    offset: Exact,
    complete: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct TimeoutNow<'a> {
    term: Exact,
    #[serde(borrow)]
    leader_id: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
struct WireTerm {
    term: Exact,
    nonce: Exact,
}

#[derive(Serialize, Deserialize)]
struct WireForward {
    term: Exact,
    sequence: Exact,
    connection: u64,
    kind: ForwardKind,
    op: Op,
}

/// With one of the two.
#[derive(Serialize, Deserialize)]
struct ForwardRes {
    sequence: Exact,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answer: Option<Op>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<Failure>,
}

impl<'a> Body<'a> {
    /// Whether it answers a request.
    fn is_answer(&self) -> bool {
        match self {
            Body::RequestVoteRes(_) | Body::AppendEntriesRes(_) | Body::ForwardRes(_) | Body::TellTerm(_) => true,
            Body::InstallSnapshotRes(_) | Body::InstallSnapshotChunkRes(_) => true,
            Body::RequestVote(_) | Body::AppendEntries(_) | Body::TimeoutNow(_) | Body::Forward(_) => false,
            Body::InstallSnapshot(_) | Body::InstallSnapshotChunk(_) | Body::AskTerm(_) => false,
        }
    }

    fn parse(kind: &str, body: &'a RawValue) -> Result<Self, String> {
        match kind {
            "request_vote" => parse(body).map(Body::RequestVote),
            "request_vote_res" => parse(body).map(Body::RequestVoteRes),
            "append_entries" => parse(body).map(Body::AppendEntries),
            "append_entries_res" => parse(body).map(Body::AppendEntriesRes),
            "install_snapshot" => parse(body).map(Body::InstallSnapshot),
            "install_snapshot_res" => parse(body).map(Body::InstallSnapshotRes),
            "install_snapshot_chunk" => parse(body).map(Body::InstallSnapshotChunk),
            "install_snapshot_chunk_res" => parse(body).map(Body::InstallSnapshotChunkRes),
            "timeout_now" => parse(body).map(Body::TimeoutNow),
            "ask_term" => parse(body).map(Body::AskTerm),
            "tell_term" => parse(body).map(Body::TellTerm),
            "forward" => parse(body).map(Body::Forward),
            "forward_res" => parse(body).map(Body::ForwardRes),
            _ => Err(format!("unknown type {kind:?}")),
        }
    }

    fn of(message: &PeerMessage, names: &'a Names) -> Result<Self, String> {
        Ok(match message {
            PeerMessage::Raft { message, payloads } => Body::of_raft(message, payloads, names)?,
            PeerMessage::Forward(Forward { term, sequence, connection, kind, payload }) => Body::Forward(WireForward {
                term: Exact(*term),
                sequence: Exact(*sequence),
                connection: *connection,
                kind: *kind,
                op: match kind {
                    ForwardKind::Write | ForwardKind::SessionWrite(_) => Op::of_command(payload),
                    ForwardKind::Read => Op::of_query(payload),
                },
            }),
            PeerMessage::ForwardReply { sequence, outcome, .. } => Body::ForwardRes(ForwardRes {
                sequence: Exact(*sequence),
                answer: outcome.as_ref().ok().map(Op::of_answer),
                failure: outcome.as_ref().err().cloned(),
            }),
        })
    }

    fn of_raft(message: &Message, payloads: &[Payload], names: &'a Names) -> Result<Self, String> {
        let term = Exact(message.term.0);
        let me = Cow::from(names.my_name());
        Ok(match &message.body {
            MessageBody::RequestVote { pre, last_index, last_term, transfer } => Body::RequestVote(RequestVote {
                term,
                candidate_id: me,
                last_log_index: Exact(last_index.0),
                last_log_term: Exact(last_term.0),
                pre_vote: *pre,
                transfer: *transfer,
            }),
            MessageBody::RequestVoteResponse { pre, granted } => {
                Body::RequestVoteRes(RequestVoteRes { term, vote_granted: *granted, pre_vote: *pre })
            }
            MessageBody::AppendEntries(append) => Body::AppendEntries(WireAppend {
                term,
                leader_id: me,
                prev_log_index: Exact(append.prev_index.0),
                prev_log_term: Exact(append.prev_term.0),
                leader_commit: Exact(append.commit.0),
                round: Exact(append.round),
                entries: WireEntry::of(&append.entries, payloads, names)?,
            }),
            MessageBody::AppendAccepted { matched, round, abstains } => Body::AppendEntriesRes(AppendEntriesRes {
                term,
                success: true,
                match_index: Some(Exact(matched.0)),
                prev_log_index: None,
                hint_index: None,
                hint_term: None,
                round: Exact(*round),
                abstains: *abstains,
            }),
            MessageBody::AppendRejected { prev_index, hint_index, hint_term, round, abstains } => {
                Body::AppendEntriesRes(AppendEntriesRes {
                    term,
                    success: false,
                    match_index: None,
                    prev_log_index: Some(Exact(prev_index.0)),
                    hint_index: Some(Exact(hint_index.0)),
                    hint_term: Some(Exact(hint_term.0)),
                    round: Exact(*round),
                    abstains: *abstains,
                })
            }
            MessageBody::InstallSnapshot { snapshot } => Body::InstallSnapshot(InstallSnapshot {
                term,
                leader_id: me,
                last_included_index: Exact(snapshot.index.0),
                last_included_term: Exact(snapshot.term.0),
                time: Exact(snapshot.time.0),
                membership: Op::of_membership(&snapshot.membership, names)?,
            }),
            MessageBody::SnapshotInstalled { matched, abstains } => {
                let (match_index, abstains) = (Exact(matched.0), *abstains);
                Body::InstallSnapshotRes(InstallSnapshotRes { term, match_index, abstains })
            }
            MessageBody::TimeoutNow => Body::TimeoutNow(TimeoutNow { term, leader_id: me }),
            MessageBody::AskTerm { nonce } => Body::AskTerm(WireTerm { term, nonce: Exact(*nonce) }),
            MessageBody::TellTerm { nonce } => Body::TellTerm(WireTerm { term, nonce: Exact(*nonce) }),
        })
    }

    fn into_said(self, from: NodeId, to_life: Option<Life>, names: &Names) -> Result<Said, String> {
        match self {
            Body::InstallSnapshotChunk(chunk) => chunk.into_chunk(from, names).map(Said::Chunk),
            Body::InstallSnapshotChunkRes(answer) => {
                let progress = Progress { received: answer.offset.0, complete: answer.complete };
                let index = Index(answer.last_included_index.0);
                Ok(Said::ChunkAnswer(index, answer.error.map_or(Ok(progress), Err)))
            }
            body => body.into_message(from, to_life, names).map(Said::Message),
        }
    }

    fn into_message(self, from: NodeId, to_life: Option<Life>, names: &Names) -> Result<PeerMessage, String> {
        let true_name = |name: &str| match names.id(name) {
            Some(id) if id == from => Ok(()),
            _ => Err(format!("node {from} calls itself {name:?}")),
        };
        let (term, body) = match self {
            Body::RequestVote(request) => {
                true_name(&request.candidate_id)?;
                (request.term, request.into_body())
            }
            Body::RequestVoteRes(RequestVoteRes { term, vote_granted: granted, pre_vote: pre }) => {
                (term, MessageBody::RequestVoteResponse { pre, granted })
            }
            Body::AppendEntries(append) => {
                true_name(&append.leader_id)?;
                return append.into_message(names);
            }
            Body::AppendEntriesRes(response) => (response.term, response.into_body()?),
            Body::InstallSnapshot(install) => {
                true_name(&install.leader_id)?;
                (install.term, install.into_body(names)?)
            }
            Body::InstallSnapshotRes(InstallSnapshotRes { term, match_index, abstains }) => {
                (term, MessageBody::SnapshotInstalled { matched: Index(match_index.0), abstains })
            }
            Body::TimeoutNow(TimeoutNow { term, leader_id }) => {
                true_name(&leader_id)?;
                (term, MessageBody::TimeoutNow)
            }
            Body::AskTerm(WireTerm { term, nonce }) => (term, MessageBody::AskTerm { nonce: nonce.0 }),
            Body::TellTerm(WireTerm { term, nonce }) => (term, MessageBody::TellTerm { nonce: nonce.0 }),
            Body::Forward(forward) => return forward.into_message(),
            Body::ForwardRes(response) => {
                return response.into_message(to_life.ok_or("the field `to_life` is missing")?);
            }
            Body::InstallSnapshotChunk(_) | Body::InstallSnapshotChunkRes(_) => {
                return Err("a part of a snapshot is no message for the node".into());
            }
        };
        Ok(PeerMessage::Raft { message: Message { term: Term(term.0), body }, payloads: Vec::new() })
    }
}

impl RequestVote<'_> {
    fn into_body(self) -> MessageBody {
        MessageBody::RequestVote {
            pre: self.pre_vote,
            last_index: Index(self.last_log_index.0),
            last_term: Term(self.last_log_term.0),
            transfer: self.transfer,
        }
    }
}

impl WireAppend<'_> {
    fn into_message(self, names: &Names) -> Result<PeerMessage, String> {
        let mut entries = Vec::with_capacity(self.entries.len());
        let mut payloads = Vec::with_capacity(self.entries.len());
        for (index, entry) in (self.prev_log_index.0 + 1..).zip(self.entries) {
            if entry.index.0 != index {
                return Err(format!("entry {} stands where entry {index} belongs", entry.index.0));
            }
            let (header, payload) = entry.into_parts(names)?;
            entries.push(header);
            payloads.push(payload);
        }
        let body = MessageBody::AppendEntries(AppendEntries {
            prev_index: Index(self.prev_log_index.0),
            prev_term: Term(self.prev_log_term.0),
            commit: Index(self.leader_commit.0),
            round: self.round.0,
            entries,
        });
        Ok(PeerMessage::Raft { message: Message { term: Term(self.term.0), body }, payloads })
    }
}

impl WireEntry {
    fn of(headers: &[EntryHeader], payloads: &[Payload], names: &Names) -> Result<Vec<WireEntry>, String> {
        if headers.len() != payloads.len() {
            return Err(format!("{} entries with {} payloads", headers.len(), payloads.len()));
        }
        let entry = |(header, payload): (&EntryHeader, &Payload)| {
            Ok(WireEntry {
                index: Exact(header.index.0),
                term: Exact(header.term.0),
                time: Exact(header.time.0),
                session: header.session.map(|SessionSequence { session, sequence }| (session, sequence)),
                op: Op::of_entry(&header.kind, payload, names)?,
            })
        };
        headers.iter().zip(payloads).map(entry).collect()
    }

    fn into_parts(self, names: &Names) -> Result<(EntryHeader, Payload), String> {
        let (kind, payload) = self.op.entry(names).map_err(|why| format!("entry {}: {why}", self.index.0))?;
        let header = EntryHeader {
            index: Index(self.index.0),
            term: Term(self.term.0),
            kind,
            time: LogTime(self.time.0),
            session: self.session.map(|(session, sequence)| SessionSequence { session, sequence }),
            size: u32::try_from(payload.len()).map_err(|error| error.to_string())?,
        };
        Ok((header, payload))
    }
}

impl AppendEntriesRes {
    fn into_body(self) -> Result<MessageBody, String> {
        let (round, abstains) = (self.round.0, self.abstains);
        match (self.success, self.match_index, self.prev_log_index, self.hint_index, self.hint_term) {
            (true, Some(matched), ..) => Ok(MessageBody::AppendAccepted { matched: Index(matched.0), round, abstains }),
            (false, _, Some(prev_index), Some(hint_index), Some(hint_term)) => Ok(MessageBody::AppendRejected {
                prev_index: Index(prev_index.0),
                hint_index: Index(hint_index.0),
                hint_term: Term(hint_term.0),
                round,
                abstains,
            }),
            (true, ..) => Err("`success` without `match_index`".into()),
            (false, ..) => Err("no `success`, and not all of `prev_log_index`, `hint_index`, `hint_term`".into()),
        }
    }
}

impl InstallSnapshot<'_> {
    fn into_body(self, names: &Names) -> Result<MessageBody, String> {
        let snapshot = SnapshotMeta {
            index: Index(self.last_included_index.0),
            term: Term(self.last_included_term.0),
            time: LogTime(self.time.0),
            membership: self.membership.membership(names)?,
        };
        Ok(MessageBody::InstallSnapshot { snapshot })
    }
}

impl<'a> WireChunk<'a> {
    fn of(chunk: &Chunk, names: &'a Names) -> Result<Self, String> {
        let Chunk { offer: Offer { term, snapshot, bytes }, offset, bytes: data } = chunk;
        Ok(WireChunk {
            term: Exact(term.0),
            leader_id: Cow::from(names.my_name()),
            last_included_index: Exact(snapshot.index.0),
            last_included_term: Exact(snapshot.term.0),
            time: Exact(snapshot.time.0),
            membership: Op::of_membership(&snapshot.membership, names)?,
            bytes: Exact(*bytes),
            offset: Exact(*offset),
            data: Cow::from(STANDARD.encode(data)),
            done: offset + data.len() as u64 == *bytes,
        })
    }

    fn into_chunk(self, from: NodeId, names: &Names) -> Result<Chunk, String> {
        if names.id(&self.leader_id) != Some(from) {
            return Err(format!("node {from} calls itself {:?}", self.leader_id));
        }
        if self.data.len() > CHUNK_TEXT_BYTES {
            return Err(format!("`data` has {} bytes, {CHUNK_TEXT_BYTES} are allowed", self.data.len()));
        }
        let bytes = STANDARD.decode(self.data.as_bytes()).map_err(|error| format!("`data`: {error}"))?;
        let snapshot = SnapshotMeta {
            index: Index(self.last_included_index.0),
            term: Term(self.last_included_term.0),
            time: LogTime(self.time.0),
            membership: self.membership.membership(names)?,
        };
        let offer = Offer { term: Term(self.term.0), snapshot, bytes: self.bytes.0 };
        Ok(Chunk { offer, offset: self.offset.0, bytes })
    }
}

impl WireForward {
    fn into_message(self) -> Result<PeerMessage, String> {
        let payload = match self.kind {
            ForwardKind::Write | ForwardKind::SessionWrite(_) => self.op.command()?,
            ForwardKind::Read => self.op.query()?,
        };
        let (term, sequence) = (self.term.0, self.sequence.0);
        Ok(PeerMessage::Forward(Forward { term, sequence, connection: self.connection, kind: self.kind, payload }))
    }
}

impl ForwardRes {
    fn into_message(self, life: Life) -> Result<PeerMessage, String> {
        let outcome = match (self.answer, self.failure) {
            (Some(answer), None) => Ok(answer.answer()?),
            (None, Some(failure)) => Err(failure),
            _ => return Err("needs either `answer` or `failure`".into()),
        };
        Ok(PeerMessage::ForwardReply { life, sequence: self.sequence.0, outcome })
    }
}

#[cfg(test)]
mod tests;
