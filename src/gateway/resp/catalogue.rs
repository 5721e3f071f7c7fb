//! Commands about the server: which commands there are, its settings, its state.

use bytes::Bytes;

use super::answer::Shape;
use super::command::{self, Action, COMMANDS, Ran, Spec, reply, unknown_subcommand, upper, wrong_arity};
use super::connection::Client;
use super::frame::Frame;
use crate::machine::command::MAX_PATTERN_BYTES;
use crate::machine::glob;
use crate::runtime::Operation;

/// Settings of Redis that clients and tools ask for, with the values that describe this server best.
const SETTINGS: &[(&str, &str)] = &[
    ("appendfsync", "always"),
    ("appendonly", "yes"),
    ("databases", "1"),
    ("maxmemory", "0"),
    ("maxmemory-policy", "noeviction"),
    ("notify-keyspace-events", ""),
    ("save", ""),
    ("timeout", "0"),
];

/// `INFO [section...]`
pub fn info(_: &mut Client, request: &[Bytes]) -> Ran {
    // Copied: they outlive the request.
    let sections = request.iter().skip(1).map(|name| Bytes::copy_from_slice(name)).collect();
    Ok(Action::Submit(Operation::Status, Shape::Info(sections)))
}

/// `CONFIG GET pattern...`
pub fn config(_: &mut Client, request: &[Bytes]) -> Ran {
    match request {
        [_, subcommand, patterns @ ..] if upper(subcommand).as_str() == "GET" && !patterns.is_empty() => {
            let wanted = |name: &str| {
                patterns.iter().any(|pattern| {
                    pattern.len() <= MAX_PATTERN_BYTES && glob::matches(&pattern.to_ascii_lowercase(), name.as_bytes())
                })
            };
            let found = SETTINGS.iter().filter(|(name, _)| wanted(name));
            reply(Frame::Map(found.map(|(name, value)| (Frame::text(*name), Frame::text(*value))).collect()))
        }
        [_, subcommand] if upper(subcommand).as_str() == "GET" => Err(wrong_arity("config|get")),
        [_, subcommand, ..] => Err(unknown_subcommand("config", subcommand)),
        _ => Err(wrong_arity("config")),
    }
}

/// `COMMAND [COUNT | DOCS [name...] | INFO [name...] | LIST]`
pub fn command(_: &mut Client, request: &[Bytes]) -> Ran {
    let Some((subcommand, names)) = request.get(1..).and_then(<[Bytes]>::split_first) else {
        return reply(Frame::Array(COMMANDS.iter().map(describe).collect()));
    };
    match (upper(subcommand).as_str(), names) {
        ("COUNT", []) => reply(Frame::number(COMMANDS.len() as u64)),
        ("LIST", []) => reply(Frame::Array(COMMANDS.iter().map(|spec| Frame::text(spec.name)).collect())),
        ("INFO", []) => reply(Frame::Array(COMMANDS.iter().map(describe).collect())),
        ("INFO", _) => {
            let found = names.iter().map(|name| command::find(name).map_or(Frame::NullArray, describe));
            reply(Frame::Array(found.collect()))
        }
        ("DOCS", []) => reply(Frame::Map(COMMANDS.iter().map(document).collect())),
        ("DOCS", _) => reply(Frame::Map(names.iter().filter_map(|name| command::find(name)).map(document).collect())),
        ("COUNT" | "LIST", _) => Err(wrong_arity("command")),
        _ => Err(unknown_subcommand("command", subcommand)),
    }
}

/// Name, arity, flags, positions of keys; then categories, tips, key specifications and subcommands, of which there
/// are none.
fn describe(spec: &Spec) -> Frame {
    let (first, last, step) = spec.keys;
    let none = || Frame::Array(Vec::new());
    Frame::Array(vec![
        Frame::text(spec.name),
        Frame::Integer(spec.arity),
        Frame::Array(spec.flags.iter().copied().map(Frame::Simple).collect()),
        Frame::Integer(first),
        Frame::Integer(last),
        Frame::Integer(step),
        none(),
        none(),
        none(),
        none(),
    ])
}

fn document(spec: &Spec) -> (Frame, Frame) {
    let pairs =
        vec![(Frame::text("summary"), Frame::text(spec.summary)), (Frame::text("arity"), Frame::Integer(spec.arity))];
    (Frame::text(spec.name), Frame::Map(pairs))
}
