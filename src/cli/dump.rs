//! `raft dump`: prints what a data folder holds, one line each.

use std::fmt::Write as _;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::process::ExitCode;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use raft::consensus::{Entry, EntryKind, HardState, Membership, Payload};
use raft::storage::inspect::{DataFolder, Item, Record};
use serde_json::{Value, json};

use super::args::DumpArgs;
use super::{Error, check, progress};

/// So much of a payload is shown as text.
const PREVIEW_BYTES: usize = 48;

pub fn run(args: &DumpArgs) -> Result<ExitCode, Error> {
    let folder = DataFolder::open(&args.folder).map_err(|error| Error::Failed(error.to_string()))?;
    // On a terminal the lines themselves show how far it is.
    let size_bytes = if io::stdout().is_terminal() { 0 } else { folder.size_bytes() };
    let (bar, on_read) = progress::bar(size_bytes);
    let mut out = BufWriter::new(io::stdout().lock());
    let mut printed = Ok(());
    let findings = folder.inspect(on_read, &mut |item| {
        if printed.is_ok() {
            let line = Line::of(item);
            printed = writeln!(out, "{}", if args.json { line.json() } else { line.text() });
        }
    });
    bar.finish_and_clear();
    match printed.and_then(|()| out.flush()) {
        // Whoever reads it may stop before the end, as `head` does: that is no failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::failed("cannot print", error)),
        _ => Ok(check::conclude(&findings)),
    }
}

/// What is printed of an item: what it is, and its fields by name.
struct Line {
    kind: &'static str,
    /// Where the record is, if it is one: its segment's name, and the offset.
    place: Option<(String, u64)>,
    fields: Vec<(&'static str, Value)>,
    payload: Option<Payload>,
}

impl Line {
    fn of(item: Item) -> Line {
        let line = |kind, fields| Line { kind, place: None, fields, payload: None };
        match item {
            Item::Identity { cluster_id, node, life, voters, abstains } => line(
                "identity",
                vec![
                    ("node", json!(node)),
                    ("cluster_id", json!(format!("{cluster_id:016x}"))),
                    ("voters", json!(voters)),
                    ("incarnation", json!(format!("{:016x}", life.incarnation))),
                    ("boot", json!(life.boot)),
                    ("abstains", json!(abstains)),
                ],
            ),
            Item::Peer { node, life } => line(
                "peer",
                vec![
                    ("node", json!(node)),
                    ("incarnation", json!(format!("{:016x}", life.incarnation))),
                    ("boot", json!(life.boot)),
                ],
            ),
            Item::Segment { file, size_bytes, base, first_batch, hard_state, recycled } => line(
                "segment",
                [
                    vec![("file", json!(file)), ("size_bytes", json!(size_bytes)), ("first_batch", json!(first_batch))],
                    vec![("base_index", json!(base.0)), ("base_term", json!(base.1))],
                    hard_state_fields(&hard_state),
                    vec![("recycled", json!(recycled))],
                ]
                .concat(),
            ),
            Item::Record { file, offset, batch, record } => Line::of_record((file, offset), batch, record),
            Item::Log(log) => line(
                "log",
                [
                    vec![("base_index", json!(log.base.0)), ("base_term", json!(log.base.1))],
                    vec![("last_index", json!(log.last))],
                    hard_state_fields(&log.hard_state),
                ]
                .concat(),
            ),
            Item::Snapshot { file, info } => line(
                "snapshot",
                vec![
                    ("file", json!(file)),
                    ("size_bytes", json!(info.bytes)),
                    ("index", json!(info.meta.index)),
                    ("term", json!(info.meta.term)),
                    ("time_ms", json!(info.meta.time)),
                    ("membership", membership(&info.meta.membership)),
                ],
            ),
            Item::Other { file, known } => {
                line(if known { "leftover" } else { "unknown_file" }, vec![("file", json!(file))])
            }
        }
    }

    fn of_record(place: (String, u64), batch: u64, record: Record) -> Line {
        let (kind, fields, payload) = match record {
            Record::Entry(Entry { header, payload }) => {
                let kind = match &header.kind {
                    EntryKind::Noop => "noop",
                    EntryKind::Command => "command",
                    EntryKind::Membership(_) => "membership",
                    EntryKind::Tick => "tick",
                };
                let mut fields = vec![
                    ("index", json!(header.index)),
                    ("term", json!(header.term)),
                    ("kind", json!(kind)),
                    ("time_ms", json!(header.time)),
                ];
                if let Some(stamp) = header.session {
                    fields.extend([("session", json!(stamp.session)), ("sequence", json!(stamp.sequence))]);
                }
                if let EntryKind::Membership(members) = &header.kind {
                    fields.push(("membership", membership(members)));
                }
                fields.push(("payload_bytes", json!(header.size)));
                ("entry", fields, Some(payload))
            }
            Record::HardState(hard_state) => ("hard_state", hard_state_fields(&hard_state), None),
            Record::Truncate(from, before) => {
                ("truncate", vec![("from_index", json!(from)), ("term_before", json!(before))], None)
            }
            Record::Install(index, term) => ("install", vec![("index", json!(index)), ("term", json!(term))], None),
            Record::End => ("end", Vec::new(), None),
        };
        let fields = [vec![("batch", json!(batch))], fields].concat();
        Line { kind, place: Some(place), fields, payload }
    }

    /// One JSON object.
    fn json(self) -> String {
        let mut fields = vec![("type", json!(self.kind))];
        if let Some((file, offset)) = self.place {
            fields.extend([("file", json!(file)), ("offset", json!(offset))]);
        }
        fields.extend(self.fields);
        fields.extend(self.payload.map(|payload| ("payload", json!(BASE64_STANDARD.encode(&*payload)))));
        let fields: Vec<String> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", fields.join(","))
    }

    /// Records are shown below their segment, with their offsets.
    fn text(self) -> String {
        let mut text = match self.place {
            Some((_, offset)) => format!("{offset:>10}  {}", self.kind),
            None => self.kind.into(),
        };
        for (name, value) in &self.fields {
            let _ = match value {
                Value::String(value) => write!(text, " {name}={value}"),
                value => write!(text, " {name}={value}"),
            };
        }
        let payload = self.payload.unwrap_or(Payload::EMPTY);
        let preview = payload.get(..PREVIEW_BYTES).unwrap_or(&payload);
        if !preview.is_empty() {
            let more = if preview.len() < payload.len() { "..." } else { "" };
            let _ = write!(text, " payload=\"{}\"{more}", preview.escape_ascii());
        }
        text
    }
}

fn hard_state_fields(hard_state: &HardState) -> Vec<(&'static str, Value)> {
    vec![("hard_state_term", json!(hard_state.term)), ("hard_state_vote", json!(hard_state.vote))]
}

fn membership(members: &Membership) -> Value {
    json!({ "voters": members.voters, "outgoing": members.outgoing, "learners": members.learners })
}
