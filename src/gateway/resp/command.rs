//! The table of commands: their names, how many arguments they take, and what runs them.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;

use super::answer::Shape;
use super::connection::{self, Client};
use super::frame::Frame;
use super::{catalogue, data, lists, raft, session, transaction, values};
use crate::consensus::Payload;
use crate::machine::command::{Change, Command, Query};
use crate::machine::numbers;
use crate::runtime::Operation;

/// What a command comes to.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// Answer at once.
    Reply(Frame),
    /// Ask the node.
    Submit(Operation, Shape),
    /// Wait for a message of one of these topics, for so long at most.
    Wait(Vec<Bytes>, Option<Duration>),
    /// Run the request again, in a moment: it needs the answer to an earlier one.
    Later,
    /// Answer OK, then close the connection.
    Quit,
}

/// What a command comes to, or the error reply.
pub type Ran = Result<Action, Frame>;

/// A command.
pub struct Spec {
    /// Its name, in small letters.
    pub name: &'static str,
    /// How many arguments it takes, its name included; negative: at least so many.
    pub arity: i64,
    /// What Redis clients are told about it.
    pub flags: &'static [&'static str],
    /// Position of its first key, of its last (negative: from the end), and the step between them; zeros if none.
    pub keys: (i64, i64, i64),
    /// What it does.
    pub summary: &'static str,
    /// Runs it. The arguments are as many as `arity` says, and the first is its name.
    pub run: fn(&mut Client, &[Bytes]) -> Ran,
}

const NO_KEYS: (i64, i64, i64) = (0, 0, 0);
const ONE_KEY: (i64, i64, i64) = (1, 1, 1);
const ALL_KEYS: (i64, i64, i64) = (1, -1, 1);
const ALL_BUT_LAST: (i64, i64, i64) = (1, -2, 1);
const PAIRS: (i64, i64, i64) = (1, -1, 2);

macro_rules! table {
    ($($name:literal, $arity:literal, $keys:ident, [$($flag:literal),*], $run:path, $summary:literal;)*) => {
        &[$(Spec {
            name: $name, arity: $arity, flags: &[$($flag),*], keys: $keys, summary: $summary, run: $run,
        }),*]
    };
}

/// All commands; the most frequent first.
#[rustfmt::skip]
pub const COMMANDS: &[Spec] = table![
    "get",     2,  ONE_KEY,  ["readonly", "fast"],    data::get,            "The value of a key";
    "set",     -3, ONE_KEY,  ["write"],               data::set,            "Sets a key, if a condition holds";
    "incr",    2,  ONE_KEY,  ["write", "fast"],       values::incr,         "Adds 1 to a number";
    "rpush",   -3, ONE_KEY,  ["write", "fast"],       lists::rpush,         "Puts messages at the end of a list";
    "lpop",    -2, ONE_KEY,  ["write", "fast"],       lists::lpop,          "Removes the first messages of a list";
    "mget",    -2, ALL_KEYS, ["readonly", "fast"],    values::mget,         "The values of keys";
    "mset",    -3, PAIRS,    ["write"],               values::mset,         "Sets keys";
    "del",     -2, ALL_KEYS, ["write"],               data::del,            "Deletes keys and lists";
    "exists",  -2, ALL_KEYS, ["readonly", "fast"],    data::exists,         "How many of the keys exist";
    "multi",   1,  NO_KEYS,  ["fast", "noscript"],    transaction::multi,   "Begins a transaction";
    "exec",    1,  NO_KEYS,  ["noscript"],            transaction::exec,    "Runs the transaction";
    "discard", 1,  NO_KEYS,  ["fast", "noscript"],    transaction::discard, "Gives the transaction up";
    "watch",   -2, ALL_KEYS, ["fast", "noscript"],    transaction::watch,   "Has the next transaction run only if nothing changes";
    "unwatch", 1,  NO_KEYS,  ["fast", "noscript"],    transaction::unwatch, "Forgets what is watched";
    "blpop",   -3, ALL_BUT_LAST, ["write", "blocking"], lists::blpop,       "Removes the first message of a list, and waits for it";
    "expire",  -3, ONE_KEY,  ["write", "fast"],       values::expire,       "Has a key expire after some seconds";
    "ttl",     2,  ONE_KEY,  ["readonly", "fast"],    values::ttl,          "How many seconds a key will last";
    "pttl",    2,  ONE_KEY,  ["readonly", "fast"],    values::pttl,         "How many milliseconds a key will last";
    "persist", 2,  ONE_KEY,  ["write", "fast"],       values::persist,      "Has a key not expire";
    "setnx",   3,  ONE_KEY,  ["write", "fast"],       values::setnx,        "Sets a key if it is missing";
    "getdel",  2,  ONE_KEY,  ["write", "fast"],       values::getdel,       "The value of a key, which is deleted";
    "incrby",  3,  ONE_KEY,  ["write", "fast"],       values::incrby,       "Adds to a number";
    "decr",    2,  ONE_KEY,  ["write", "fast"],       values::decr,         "Subtracts 1 from a number";
    "decrby",  3,  ONE_KEY,  ["write", "fast"],       values::decrby,       "Subtracts from a number";
    "append",  3,  ONE_KEY,  ["write", "fast"],       values::append,       "Appends to a value";
    "strlen",  2,  ONE_KEY,  ["readonly", "fast"],    values::strlen,       "How many bytes a value has";
    "msetnx",  -3, PAIRS,    ["write"],               values::msetnx,       "Sets keys if all are missing";
    "type",    2,  ONE_KEY,  ["readonly", "fast"],    values::type_of,      "Whether it is a string or a list";
    "llen",    2,  ONE_KEY,  ["readonly", "fast"],    lists::llen,          "Number of messages in a list";
    "lrange",  4,  ONE_KEY,  ["readonly"],            lists::lrange,        "Messages of a list";
    "scan",    -2, NO_KEYS,  ["readonly"],            data::scan,           "Goes through the keys";
    "keys",    2,  NO_KEYS,  ["readonly"],            data::keys,           "All keys that match a pattern";
    "dbsize",  1,  NO_KEYS,  ["readonly", "fast"],    data::dbsize,         "Number of keys";
    "raft",    -2, NO_KEYS,  ["admin"],               raft::raft,           "The cluster, and what Redis has no word for";
    "ping",    -1, NO_KEYS,  ["fast"],                connection::ping,     "Answers PONG, or the message";
    "echo",    2,  NO_KEYS,  ["fast"],                connection::echo,     "Answers the message";
    "hello",   -1, NO_KEYS,  ["fast", "noscript"],    connection::hello,    "Chooses the version of the protocol";
    "auth",    -2, NO_KEYS,  ["fast", "noscript"],    connection::auth,     "Tells who the client is";
    "select",  2,  NO_KEYS,  ["fast"],                connection::select,   "Chooses database 0, the only one";
    "quit",    -1, NO_KEYS,  ["fast"],                connection::quit,     "Closes the connection";
    "reset",   1,  NO_KEYS,  ["fast", "noscript"],    connection::reset,    "Makes the connection like new";
    "client",  -2, NO_KEYS,  ["admin", "noscript"],   connection::client,   "About the client's connection";
    "command", -1, NO_KEYS,  ["loading"],             catalogue::command,   "What commands there are";
    "config",  -2, NO_KEYS,  ["admin"],               catalogue::config,    "Settings that Redis clients ask for";
    "info",    -1, NO_KEYS,  ["readonly"],            catalogue::info,      "About the node";
];

impl Spec {
    /// Whether it takes so many arguments, its name included.
    pub fn takes(&self, given: usize) -> bool {
        let given = given as i64;
        given == self.arity || (self.arity < 0 && given >= -self.arity)
    }
}

/// The command of this name, in any case.
pub fn find(name: &[u8]) -> Option<&'static Spec> {
    COMMANDS.iter().find(|spec| name.eq_ignore_ascii_case(spec.name.as_bytes()))
}

/// Runs a request. The second result: whether the request may be passed on to the leader.
pub fn run(client: &mut Client, mut request: &[Bytes]) -> (Ran, bool) {
    if let Some(ran) = transaction::queue(client, request) {
        return (ran, true);
    }
    let mut forward = true;
    while let Some(rest) = raft::only(request) {
        request = rest;
        forward = false;
    }
    let ran = match session::stamped(request) {
        Some((session, sequence, words)) => session::run_once(client, session, sequence, words),
        None => run_plain(client, request),
    };
    (ran, forward)
}

/// Whether it is a command on what is stored, or one of `RAFT`'s: none of them changes the connection.
pub fn is_about_data(request: &[Bytes]) -> bool {
    let spec = request.first().and_then(|name| find(name));
    spec.is_some_and(|spec| spec.name == "raft" || spec.flags.iter().any(|flag| matches!(*flag, "readonly" | "write")))
}

/// Runs a request that has no `RAFT ONLY` or `RAFT DO` in front.
pub fn run_plain(client: &mut Client, request: &[Bytes]) -> Ran {
    let Some((name, arguments)) = request.split_first() else { return Err(syntax_error()) };
    let Some(spec) = find(name) else { return Err(unknown(name, arguments)) };
    if spec.takes(request.len()) { (spec.run)(client, request) } else { Err(wrong_arity(spec.name)) }
}

/// Sends a change through the log.
pub fn write(change: Change, shape: Shape) -> Ran {
    Ok(Action::Submit(Operation::Write(Payload(Command::from(change).encode())), shape))
}

/// Asks the state machine.
pub fn read(query: &Query, shape: Shape) -> Ran {
    Ok(Action::Submit(Operation::Read(Payload(query.encode())), shape))
}

/// Answers at once.
pub fn reply(frame: Frame) -> Ran {
    Ok(Action::Reply(frame))
}

/// Answers OK at once.
pub fn ok() -> Ran {
    reply(Frame::Simple("OK"))
}

/// The arguments make no sense.
pub fn syntax_error() -> Frame {
    Frame::error("ERR syntax error")
}

/// Too few or too many arguments. Subcommands are named `client|setname`.
pub fn wrong_arity(name: &str) -> Frame {
    Frame::error(format!("ERR wrong number of arguments for '{name}' command"))
}

/// No such subcommand.
pub fn unknown_subcommand(command: &str, subcommand: &[u8]) -> Frame {
    Frame::error(format!("ERR unknown subcommand '{}' of '{command}'", shown(subcommand)))
}

/// A number that must be between 0 and 2^64 - 1.
pub fn number(text: &[u8]) -> Result<u64, Frame> {
    let number =
        std::str::from_utf8(text).ok().filter(|text| !text.starts_with('+')).and_then(|text| text.parse().ok());
    number.ok_or_else(|| Frame::error("ERR value is not an integer or out of range"))
}

/// A number of 64 bits with sign.
pub fn integer(text: &[u8]) -> Result<i64, Frame> {
    numbers::parse(text).ok_or_else(|| Frame::error("ERR value is not an integer or out of range"))
}

/// A word in capitals, without an allocation.
pub struct Upper {
    bytes: [u8; LONGEST_WORD],
    length: usize,
}

/// Bytes of the longest word that is compared with names.
const LONGEST_WORD: usize = 32;

impl Upper {
    /// The word.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

/// The text in capitals, to compare with names; empty if it is longer than any name, or of other letters.
pub fn upper(text: &[u8]) -> Upper {
    let mut word = Upper { bytes: [0; LONGEST_WORD], length: 0 };
    if text.is_ascii()
        && let Some(place) = word.bytes.get_mut(..text.len())
    {
        place.copy_from_slice(text);
        place.make_ascii_uppercase();
        word.length = text.len();
    }
    word
}

/// As Redis puts it: clients look for these words.
fn unknown(name: &[u8], arguments: &[Bytes]) -> Frame {
    let mut text = format!("ERR unknown command '{}', with args beginning with: ", shown(name));
    for argument in arguments.iter().take(8) {
        text.push_str(&format!("'{}' ", shown(argument)));
    }
    Frame::error(text)
}

/// The beginning of what a client sent, fit for an error text.
pub fn shown(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes.get(..64).unwrap_or(bytes))
}
