//! Why a request has no answer, and whether it may have taken effect.

use std::io;

use super::NodeAddress;

/// Why a request failed. The texts are for people; programs look at [`Error::word`] and [`Error::definite`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No node, or not the one that was meant, could be reached: the request was not sent.
    #[error("{0}")]
    Unreachable(String),
    /// No leader, not the leader, or stopping.
    #[error("{0}")]
    NotReady(String),
    /// Too much is waiting already.
    #[error("{0}")]
    Overloaded(String),
    /// A write may or may not have taken effect, or may still do so.
    #[error("{0}")]
    Unknown(String),
    /// A read got no answer in time.
    #[error("{0}")]
    Timeout(String),
    /// A compare-and-set found no such key.
    #[error("{0}")]
    Missing(String),
    /// A compare-and-set found another value.
    #[error("{0}")]
    Different(String),
    /// There is a topic of this name already.
    #[error("{0}")]
    Exists(String),
    /// There is no such topic.
    #[error("{0}")]
    NoTopic(String),
    /// The topic has as many messages or bytes as it may.
    #[error("{0}")]
    Full(String),
    /// The lease is over: somebody else may have the message.
    #[error("{0}")]
    Stale(String),
    /// The session has ended, or forgotten so low a number. Nothing happened now; of earlier attempts nobody knows.
    #[error("{0}")]
    NoSession(String),
    /// The node cannot serve such a request.
    #[error("{0}")]
    Refused(String),
    /// The node's answer to a read makes no sense: another version, or no node of ours at all.
    #[error("{0}")]
    Protocol(String),
    /// The request was not sent: it makes no sense.
    #[error("{0}")]
    Usage(String),
}

/// Whether repeating a request can do harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Looks at something: may be repeated.
    Read,
    /// Changes something: must not be repeated once it may have reached a node.
    Write,
    /// Changes something, in a session: may be repeated as it is.
    Once,
}

impl Error {
    /// A stable word for programs.
    pub fn word(&self) -> &'static str {
        match self {
            Error::Unreachable(_) => "unreachable",
            Error::NotReady(_) => "not_ready",
            Error::Overloaded(_) => "overloaded",
            Error::Unknown(_) => "unknown_outcome",
            Error::Timeout(_) => "timeout",
            Error::Missing(_) => "missing",
            Error::Different(_) => "different",
            Error::Exists(_) => "exists",
            Error::NoTopic(_) => "no_topic",
            Error::Full(_) => "full",
            Error::Stale(_) => "stale",
            Error::NoSession(_) => "no_session",
            Error::Refused(_) => "refused",
            Error::Protocol(_) => "protocol",
            Error::Usage(_) => "usage",
        }
    }

    /// Whether the request certainly did not and never will take effect.
    pub fn definite(&self) -> bool {
        !matches!(self, Error::Unknown(_))
    }

    /// Whether the same request may be sent again, and has a chance: nothing happened, and that may change.
    pub(super) fn is_temporary(&self) -> bool {
        matches!(self, Error::Unreachable(_) | Error::NotReady(_) | Error::Overloaded(_) | Error::Timeout(_))
    }

    /// Whether the node did its part, so that another one would not do better.
    pub(super) fn is_nodes_answer(&self) -> bool {
        matches!(self, Error::Overloaded(_) | Error::Refused(_) | Error::NoSession(_)) || self.is_outcome()
    }

    /// Whether this is what came of the request when the cluster ran it.
    pub(super) fn is_outcome(&self) -> bool {
        matches!(
            self,
            Error::Missing(_)
                | Error::Different(_)
                | Error::Exists(_)
                | Error::NoTopic(_)
                | Error::Full(_)
                | Error::Stale(_)
        )
    }

    /// From an error reply: a word in capitals and a text.
    pub(super) fn from_reply(node: &NodeAddress, reply: &str, effect: Effect) -> Error {
        // It may quote what other clients wrote, and end up on a terminal.
        let reply = reply.replace(char::is_control, "\u{fffd}");
        let (word, text) = reply.split_once(' ').unwrap_or((&reply, ""));
        match (word, effect) {
            ("NOTREADY", _) => Error::NotReady(format!("{node} is not ready: {text}")),
            ("OVERLOADED", _) => Error::Overloaded(format!("{node} is overloaded: {text}")),
            ("UNKNOWN", Effect::Write | Effect::Once) => Error::Unknown(text.to_owned()),
            ("UNKNOWN", Effect::Read) => Error::Timeout(format!("{node} has no answer: {text}")),
            ("MISSING", _) => Error::Missing(text.to_owned()),
            ("DIFFERENT", _) => Error::Different(text.to_owned()),
            ("EXISTS", _) => Error::Exists(text.to_owned()),
            ("NOTOPIC", _) => Error::NoTopic(text.to_owned()),
            ("FULL", _) => Error::Full(text.to_owned()),
            ("STALE", _) => Error::Stale(text.to_owned()),
            ("NOSESSION" | "OUTDATED", _) => Error::NoSession(text.to_owned()),
            ("ERR", _) => Error::Refused(text.to_owned()),
            _ => Error::Refused(reply),
        }
    }

    /// The connection could not be made, or broke before the request was out.
    pub(super) fn not_sent(node: &NodeAddress, error: &io::Error) -> Error {
        Error::Unreachable(format!("{node} cannot be reached: {error}"))
    }

    /// The request was sent, and there is no reply, or one that makes no sense.
    pub(super) fn no_answer(node: &NodeAddress, why: &str, effect: Effect) -> Error {
        match effect {
            Effect::Read => Error::Timeout(format!("no answer from {node}: {why}")),
            Effect::Write | Effect::Once => Error::Unknown(format!(
                "outcome unknown: no answer from {node}: {why}; it may or may not take effect, so look before you repeat it"
            )),
        }
    }
}
