//! The shell's commands: their help, and words to commands.

use std::fmt::Write;

use super::queue::QueueCommand;
use super::words;
use crate::client::Error;

/// A command, checked as far as its words go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `set KEY VALUE`
    Set {
        /// The key.
        key: Vec<u8>,
        /// Its new value.
        value: Vec<u8>,
    },
    /// `get KEY`
    Get {
        /// The key.
        key: Vec<u8>,
    },
    /// `cas KEY FROM TO`
    Cas {
        /// The key.
        key: Vec<u8>,
        /// The value it must have.
        from: Vec<u8>,
        /// The value it gets.
        to: Vec<u8>,
    },
    /// `del KEY`
    Delete {
        /// The key.
        key: Vec<u8>,
    },
    /// `list [PREFIX]`
    List {
        /// What the keys begin with.
        prefix: Vec<u8>,
    },
    /// A command on topics or messages.
    Queue(QueueCommand),
    /// `watch TOPIC`
    Watch {
        /// The topic.
        topic: Vec<u8>,
    },
    /// `status`
    Status,
    /// `leader`
    Leader,
    /// `transfer N`
    Transfer {
        /// The new leader's id or label.
        to: String,
    },
    /// `log N [FROM]`
    Log {
        /// The node's id or label.
        node: String,
        /// First index to show.
        from: Option<u64>,
    },
    /// `state N`
    State {
        /// The node's id or label.
        node: String,
    },
    /// `debug N|all`
    Debug {
        /// The node's id or label; `None`: all.
        node: Option<String>,
    },
    /// `send N COMMAND`
    Send {
        /// The node's id or label.
        node: String,
        /// `set`, `get`, `cas`, `del` or `list`.
        command: Box<Command>,
    },
    /// `help [COMMAND]`
    Help {
        /// The command to explain; `None`: all in short.
        topic: Option<&'static Usage>,
    },
    /// `quit` or `exit`
    Quit,
}

/// How a command is used.
#[derive(Debug, PartialEq, Eq)]
pub struct Usage {
    /// Its name.
    pub name: &'static str,
    /// Its arguments.
    pub arguments: &'static str,
    /// What it does, in a few words.
    pub summary: &'static str,
    /// The rest: what it prints, when it fails, its fields with --json.
    details: &'static str,
}

/// All commands, in the order of `help`.
pub const COMMANDS: &[Usage] = &[
    Usage {
        name: "set",
        arguments: "KEY VALUE",
        summary: "set a key",
        details: "Prints OK once a majority has it on disk. JSON: nothing more than ok.",
    },
    Usage {
        name: "get",
        arguments: "KEY",
        summary: "the value of a key",
        details: "Prints the value alone, or (nil). The value's bytes are printed as they are, except to a terminal when \
                  they are not text: then they are escaped. JSON: key, value, revision; no such key: null and null.",
    },
    Usage {
        name: "cas",
        arguments: "KEY FROM TO",
        summary: "set a key if it has the value FROM",
        details: "Prints OK. Another value, or no such key, is an error (`different`, `missing`). JSON: nothing more \
                  than ok.",
    },
    Usage {
        name: "del",
        arguments: "KEY",
        summary: "delete a key",
        details: "Prints how many keys there were to delete: 1 or 0. JSON: deleted.",
    },
    Usage {
        name: "list",
        arguments: "[PREFIX]",
        summary: "keys and values, in order of key",
        details: "Prints a line KEY = VALUE for each key that begins with PREFIX, quoted where needed, so that they can \
                  be used in commands again. Long lists are fetched in parts: keys may change in between. JSON: items, \
                  each with key, value, revision.",
    },
    Usage {
        name: "topic",
        arguments: "ACTION [NAME]",
        summary: "create, list, delete, info, purge",
        details: "topic create NAME [messages N] [bytes N] [deliveries N]: prints OK. The limits are 10,000,000 messages, 1 \
                  GiB, and 5 deliveries, after which a message goes to the topic NAME.dead (0: never). If there is such a \
                  topic it stays as it is, which is an error (`exists`).\n\
                  topic list: prints the names in the order of creation. JSON: topics, each with topic.\n\
                  topic delete NAME: prints OK. No such topic is an error (`no_topic`), here and everywhere.\n\
                  topic info NAME: prints a table. JSON: topic, messages, leased, bytes, oldest_ms (null: no message), \
                  max_messages, max_bytes, max_deliveries.\n\
                  topic purge NAME: removes all messages, leased ones too, and prints how many. JSON: purged.",
    },
    Usage {
        name: "put",
        arguments: "TOPIC MESSAGE",
        summary: "add a message to a topic",
        details: "Prints its id. A topic that has as much as it may is an error (`full`). JSON: id.",
    },
    Usage {
        name: "take",
        arguments: "TOPIC [COUNT]",
        summary: "remove the oldest message",
        details: "Prints the message alone, or (nil); its bytes as `get` prints those of a value. With COUNT it takes up to \
                  so many, at most 1000, and prints each on a line, quoted where needed. What is taken is gone, whatever \
                  becomes of it: see `receive`. Leased messages are left out. JSON: messages, each with message.",
    },
    Usage {
        name: "receive",
        arguments: "TOPIC [COUNT [LEASE_MS]]",
        summary: "lease the oldest messages, to ack them later",
        details: "Prints a table of 1 or up to COUNT messages, at most 1000. Nobody else gets them until the lease ends, after \
                  30 s or LEASE_MS milliseconds, at most 12 hours. What was not acknowledged until then is back at its old \
                  place. JSON: messages, each with id, message, deliveries (how often it was leased), lease.",
    },
    Usage {
        name: "ack",
        arguments: "TOPIC ID LEASE",
        summary: "remove a leased message: its work is done",
        details: "ID and LEASE are those that `receive` has printed. Prints OK. A lease that is over is an error (`stale`): \
                  somebody else may have the message. JSON: nothing more than ok.",
    },
    Usage {
        name: "nack",
        arguments: "TOPIC ID LEASE",
        summary: "give a leased message back",
        details: "It is back at its old place at once. Prints OK, or fails as `ack` does. JSON: nothing more than ok.",
    },
    Usage {
        name: "extend",
        arguments: "TOPIC ID LEASE LEASE_MS",
        summary: "let a lease last longer",
        details: "It ends LEASE_MS milliseconds from now. Prints OK, or fails as `ack` does. JSON: nothing more than ok.",
    },
    Usage {
        name: "length",
        arguments: "TOPIC",
        summary: "number of messages, leased ones included",
        details: "Prints the number alone. JSON: length.",
    },
    Usage {
        name: "watch",
        arguments: "TOPIC",
        summary: "show messages as they come, until Ctrl-C",
        details: "Prints id and message, quoted where needed, a line for each that is there and for each that comes, and leaves \
                  them where they are. It looks four times a second: a message that is put and taken in between is not seen. \
                  Ctrl-C ends it, with exit code 0. JSON: a line for each message, with id and message.",
    },
    Usage {
        name: "status",
        arguments: "",
        summary: "how all nodes are",
        details: "Prints a table. A node that does not answer within a second is shown as unreachable, which is no \
                  error. lag: how many committed entries the node has yet to apply. JSON: nodes, each with id, label, \
                  reachable, role, term, leader, last, commit, applied, lag; unreachable: null from role on.",
    },
    Usage {
        name: "leader",
        arguments: "",
        summary: "who leads",
        details: "Prints the leader's id alone, as confirmed by the leader. JSON: id, label, term.",
    },
    Usage {
        name: "transfer",
        arguments: "N",
        summary: "hand leadership over to a node",
        details: "Prints OK. JSON: nothing more than ok.",
    },
    Usage {
        name: "log",
        arguments: "N [FROM]",
        summary: "entries of a node's log",
        details: "Prints a table of the last entries, or of those from index FROM on. JSON: id, label, entries, each \
                  with index, term, time_ms, kind, text, committed.",
    },
    Usage {
        name: "state",
        arguments: "N",
        summary: "a node's state",
        details: "Prints it as JSON. With --json: id, label, state.",
    },
    Usage {
        name: "debug",
        arguments: "N|all",
        summary: "make a node write its state to its log",
        details: "Prints OK; look into the node's log. JSON: nothing more than ok.",
    },
    Usage {
        name: "send",
        arguments: "N COMMAND",
        summary: "have a node run a command itself",
        details: "COMMAND is set, get, cas, del or list. The node does not pass it on: unless it is the leader, it \
                  refuses. Nothing is retried. Prints what the command prints.",
    },
    Usage { name: "help", arguments: "[COMMAND]", summary: "explain the commands, or one", details: "JSON: help." },
    Usage { name: "quit", arguments: "", summary: "leave (also: exit, Ctrl-D)", details: "" },
];

impl Command {
    /// The command in a line; `None` if the line is empty or a comment.
    pub fn parse(line: &[u8]) -> Result<Option<Command>, Error> {
        if line.trim_ascii_start().starts_with(b"#") {
            return Ok(None);
        }
        let words = words::split(line).map_err(Error::Usage)?;
        let words: Vec<_> = words.iter().map(Vec::as_slice).collect();
        match words.split_first() {
            Some((name, arguments)) => Command::from_words(name, arguments).map(Some),
            None => Ok(None),
        }
    }

    fn from_words(name: &[u8], arguments: &[&[u8]]) -> Result<Command, Error> {
        let usage = usage(name)?;
        Ok(match (usage.name, arguments) {
            ("set", &[key, value]) => Command::Set { key: key.into(), value: value.into() },
            ("get", &[key]) => Command::Get { key: key.into() },
            ("cas", &[key, from, to]) => Command::Cas { key: key.into(), from: from.into(), to: to.into() },
            ("del", &[key]) => Command::Delete { key: key.into() },
            ("list", &[]) => Command::List { prefix: Vec::new() },
            ("list", &[prefix]) => Command::List { prefix: prefix.into() },
            ("watch", &[topic]) => Command::Watch { topic: topic.into() },
            ("status", &[]) => Command::Status,
            ("leader", &[]) => Command::Leader,
            ("transfer", &[to]) => Command::Transfer { to: text(to) },
            ("log", &[node]) => Command::Log { node: text(node), from: None },
            ("log", &[node, from]) => Command::Log { node: text(node), from: Some(index(from)?) },
            ("state", &[node]) => Command::State { node: text(node) },
            ("debug", &[b"all"]) => Command::Debug { node: None },
            ("debug", &[node]) => Command::Debug { node: Some(text(node)) },
            ("send", &[node, name, ref arguments @ ..]) => {
                Command::Send { node: text(node), command: Box::new(Command::sendable(name, arguments)?) }
            }
            ("help", &[]) => Command::Help { topic: None },
            ("help", &[topic]) => Command::Help { topic: Some(self::usage(topic)?) },
            ("quit", &[]) => Command::Quit,
            _ => Command::Queue(QueueCommand::parse(usage, arguments)?.ok_or_else(|| usage.error())?),
        })
    }

    fn sendable(name: &[u8], arguments: &[&[u8]]) -> Result<Command, Error> {
        match usage(name)?.name {
            "set" | "get" | "cas" | "del" | "list" => Command::from_words(name, arguments),
            other => Err(Error::Usage(format!("{other} cannot be sent: set, get, cas, del and list can"))),
        }
    }
}

impl Usage {
    /// The command with its arguments.
    pub fn form(&self) -> String {
        format!("{} {}", self.name, self.arguments).trim_end().to_owned()
    }

    /// All about the command.
    pub fn explain(&self) -> String {
        format!("{}: {}\n{}", self.form(), self.summary, self.details).trim_end().to_owned()
    }

    fn error(&self) -> Error {
        let quoting = match self.name {
            "set" | "cas" | "put" => "; words with blanks need quotes",
            "topic" => ", see `help topic`",
            _ => "",
        };
        Error::Usage(format!("wrong arguments: the form is `{}`{quoting}", self.form()))
    }
}

/// All commands in short.
pub fn overview() -> String {
    let mut text = String::new();
    for usage in COMMANDS {
        let _ = writeln!(text, "  {:<31} {}", usage.form(), usage.summary);
    }
    text + "`help COMMAND` says more. N is a node's id or label. Words with blanks are quoted: 'a b' or \"a b\"; the latter knows \\n, \\\", \\x1b.\n\
            A line that begins with # is a comment."
}

/// The usage of a command by its name, in any case.
fn usage(name: &[u8]) -> Result<&'static Usage, Error> {
    let name = text(name).to_lowercase();
    let wanted = if name == "exit" { "quit" } else { &name };
    COMMANDS.iter().find(|usage| usage.name == wanted).ok_or_else(|| {
        let name = words::quote(name.as_bytes());
        let all: Vec<_> = COMMANDS.iter().map(|usage| usage.name).collect();
        Error::Usage(format!("unknown command {name}: there are {}", all.join(", ")))
    })
}

fn text(word: &[u8]) -> String {
    String::from_utf8_lossy(word).into_owned()
}

fn index(word: &[u8]) -> Result<u64, Error> {
    let word = text(word);
    word.parse().map_err(|_| Error::Usage(format!("FROM is an index of the log, such as 17, not {word}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::queue::command::{Settlement, TopicLimits};

    fn parse(line: &str) -> Result<Option<Command>, String> {
        Command::parse(line.as_bytes()).map_err(|error| {
            assert_eq!(error.word(), "usage");
            error.to_string()
        })
    }

    #[test]
    fn every_command_has_a_form() {
        let get = || Box::new(Command::Get { key: "k".into() });
        let queue = Command::Queue;
        for (line, command) in [
            ("set k 'a b'", Command::Set { key: "k".into(), value: "a b".into() }),
            ("GET k", *get()),
            ("cas k a \"\"", Command::Cas { key: "k".into(), from: "a".into(), to: "".into() }),
            ("del k", Command::Delete { key: "k".into() }),
            ("list", Command::List { prefix: "".into() }),
            ("list user:", Command::List { prefix: "user:".into() }),
            ("topic create t", queue(QueueCommand::Create { topic: "t".into(), limits: TopicLimits::default() })),
            (
                "topic create t deliveries 0 messages 7",
                queue(QueueCommand::Create {
                    topic: "t".into(),
                    limits: TopicLimits { messages: 7, deliveries: 0, ..TopicLimits::default() },
                }),
            ),
            ("topic list", queue(QueueCommand::Topics)),
            ("topic delete t", queue(QueueCommand::Delete { topic: "t".into() })),
            ("put t 'a b'", queue(QueueCommand::Put { topic: "t".into(), message: "a b".into() })),
            ("take t", queue(QueueCommand::Take { topic: "t".into(), count: None })),
            ("take t 1", queue(QueueCommand::Take { topic: "t".into(), count: Some(1) })),
            ("receive t", queue(QueueCommand::Receive { topic: "t".into(), count: 1, lease_ms: 30_000 })),
            ("receive t 5 100", queue(QueueCommand::Receive { topic: "t".into(), count: 5, lease_ms: 100 })),
            (
                "extend t 1 2 3",
                queue(QueueCommand::Settle {
                    topic: "t".into(),
                    id: 1,
                    lease: 2,
                    how: Settlement::Extend { lease_ms: 3 },
                }),
            ),
            ("length t", queue(QueueCommand::Length { topic: "t".into() })),
            ("watch t", Command::Watch { topic: "t".into() }),
            ("status", Command::Status),
            ("leader", Command::Leader),
            ("transfer B", Command::Transfer { to: "B".into() }),
            ("log 2", Command::Log { node: "2".into(), from: None }),
            ("log B 17", Command::Log { node: "B".into(), from: Some(17) }),
            ("state 2", Command::State { node: "2".into() }),
            ("debug 2", Command::Debug { node: Some("2".into()) }),
            ("debug all", Command::Debug { node: None }),
            ("send 2 get k", Command::Send { node: "2".into(), command: get() }),
            ("help", Command::Help { topic: None }),
            ("help quit", Command::Help { topic: COMMANDS.last() }),
            ("quit", Command::Quit),
            ("exit", Command::Quit),
        ] {
            assert_eq!(parse(line), Ok(Some(command)), "{line}");
        }
    }

    #[test]
    fn empty_lines_and_comments_are_nothing() {
        for line in ["", "  \t", "# set a 1", "   # it's fine", "\r\n"] {
            assert_eq!(parse(line), Ok(None), "{line}");
        }
    }

    #[test]
    fn mistakes_are_explained() {
        for (line, message) in [
            ("set k a b", "wrong arguments: the form is `set KEY VALUE`; words with blanks need quotes"),
            ("get", "wrong arguments: the form is `get KEY`"),
            ("status 1", "wrong arguments: the form is `status`"),
            ("send 2", "wrong arguments: the form is `send N COMMAND`"),
            ("send 2 get", "wrong arguments: the form is `get KEY`"),
            ("send 2 send 3 get k", "send cannot be sent: set, get, cas, del and list can"),
            ("log 2 x", "FROM is an index of the log, such as 17, not x"),
            (
                "push k v",
                "unknown command push: there are set, get, cas, del, list, topic, put, take, receive, ack, nack, extend, \
                 length, watch, status, leader, transfer, log, state, debug, send, help, quit",
            ),
            ("topic", "wrong arguments: the form is `topic ACTION [NAME]`, see `help topic`"),
            ("topic create t messages", "wrong arguments: the form is `topic ACTION [NAME]`, see `help topic`"),
            ("topic create t color 1", "wrong arguments: the form is `topic ACTION [NAME]`, see `help topic`"),
            ("topic create t deliveries 4294967296", "deliveries is a number, such as 10, not 4294967296"),
            ("put t a b", "wrong arguments: the form is `put TOPIC MESSAGE`; words with blanks need quotes"),
            ("take t -1", "COUNT is a number, such as 10, not -1"),
            ("receive t 1 2 3", "wrong arguments: the form is `receive TOPIC [COUNT [LEASE_MS]]`"),
            ("ack t 1", "wrong arguments: the form is `ack TOPIC ID LEASE`"),
            ("ack t 1 x", "LEASE is a number, such as 10, not x"),
            ("set k 'v", "a ' is not closed"),
        ] {
            assert_eq!(parse(line), Err(message.to_owned()), "{line}");
        }
    }
}
