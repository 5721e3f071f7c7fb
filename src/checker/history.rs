//! Histories: what clients did and saw, in memory and as lines of text.
//!
//! One operation is one line: the client, the partition, when it began and ended, the action and the outcome.
//!
//! ```text
//! 3 k1 120..450 set 5 -> done at 17
//! 4 k1 130..460 get -> found 5 at 17
//! 5 k1 140..470 cas 5 6 -> unknown
//! ```

use std::fmt::{self, Display, Formatter, Write as _};
use std::str::FromStr;

use bytes::Bytes;

/// An end that nobody has seen: the client is still waiting.
pub const NEVER: u64 = u64::MAX;

/// One operation of one client. All times are counted by one clock, in any unit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Operation<A, R> {
    /// Who asked.
    pub client: u64,
    /// The part of the state that it is about: its key, or its topic.
    pub partition: Bytes,
    /// What was asked for.
    pub action: A,
    /// What came of it.
    pub outcome: Outcome<R>,
    /// No later than when the request was sent.
    pub began: u64,
    /// No earlier than when the client learned the outcome, or gave up; or [`NEVER`].
    pub ended: u64,
}

/// What came of an operation, as far as its client knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome<R> {
    /// It took effect between its beginning and its end, and this was the answer.
    Answered(R),
    /// It never took effect, and never will.
    Failed,
    /// It took effect at some time after its beginning, or will, or never does.
    Unknown,
}

impl<A, R> Operation<A, R> {
    /// What the client was told, if it was.
    pub fn answer(&self) -> Option<&R> {
        match &self.outcome {
            Outcome::Answered(answer) => Some(answer),
            Outcome::Failed | Outcome::Unknown => None,
        }
    }

    /// The last moment at which it may have taken effect.
    pub fn latest(&self) -> u64 {
        match self.outcome {
            Outcome::Answered(_) => self.ended,
            Outcome::Failed | Outcome::Unknown => NEVER,
        }
    }
}

/// A line that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct ReadError {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

/// Every operation as a line, in the order given.
pub fn write<A: Display, R: Display>(history: &[Operation<A, R>]) -> String {
    history.iter().fold(String::new(), |mut text, operation| {
        let _ = writeln!(text, "{operation}");
        text
    })
}

/// Reads what [`write()`] has written. Empty lines and lines that begin with `#` mean nothing.
///
/// # Errors
/// The first line that is no operation.
pub fn read<A, R>(text: &str) -> Result<Vec<Operation<A, R>>, ReadError>
where
    A: FromStr<Err = String>,
    R: FromStr<Err = String>,
{
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines.map(|(at, line)| line.parse().map_err(|why| ReadError { line: at + 1, why })).collect()
}

impl<A: Display, R: Display> Display for Operation<A, R> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}..", self.client, Word(&self.partition), self.began)?;
        if self.ended != NEVER {
            write!(f, "{}", self.ended)?;
        }
        write!(f, " {} -> ", self.action)?;
        match &self.outcome {
            Outcome::Answered(answer) => answer.fmt(f),
            Outcome::Failed => f.write_str("failed"),
            Outcome::Unknown => f.write_str("unknown"),
        }
    }
}

impl<A, R> FromStr for Operation<A, R>
where
    A: FromStr<Err = String>,
    R: FromStr<Err = String>,
{
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let (asked, told) = line.split_once(" -> ").ok_or("there is no ' -> ' between the action and the outcome")?;
        let mut words = asked.splitn(4, ' ');
        let mut word = |what: &str| words.next().ok_or(format!("{what} is missing"));
        let client = number(word("the client")?)?;
        let partition = unescape(word("the partition")?)?;
        let times = word("the time")?;
        let action = word("the action")?.parse()?;
        let (began, ended) = times.split_once("..").ok_or(format!("'{times}' is no time: expected BEGAN..ENDED"))?;
        let began = number(began)?;
        let ended = if ended.is_empty() { NEVER } else { number(ended)? };
        let outcome = match told {
            "failed" => Outcome::Failed,
            "unknown" => Outcome::Unknown,
            answer => Outcome::Answered(answer.parse()?),
        };
        if ended < began {
            return Err(format!("it ended at {ended}, before it began at {began}"));
        }
        Ok(Operation { client, partition, action, outcome, began, ended })
    }
}

/// Reads a number as these lines have it.
pub(super) fn number(word: &str) -> Result<u64, String> {
    word.parse().map_err(|_| format!("'{word}' is not a number from 0 to {}", u64::MAX))
}

/// Bytes as one word without blanks, so that a line can be split: `''` if there are none, `\xNN` for most that are no letter.
pub(super) struct Word<'a>(pub &'a [u8]);

impl Display for Word<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("''");
        }
        self.0.iter().try_for_each(|&byte| match byte {
            b'\\' | b'\'' | b'>' => write!(f, "\\x{byte:02x}"),
            byte if byte.is_ascii_graphic() => f.write_char(byte.into()),
            byte => write!(f, "\\x{byte:02x}"),
        })
    }
}

/// The bytes of a [`Word`].
pub(super) fn unescape(word: &str) -> Result<Bytes, String> {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = if word == "''" { &[] } else { word.as_bytes() };
    loop {
        rest = match rest {
            [] => return Ok(bytes.into()),
            [b'\\', b'x', high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digit = |hex: u8| char::from(hex).to_digit(16).unwrap_or_default() as u8;
                bytes.push(digit(*high) << 4 | digit(*low));
                after
            }
            [b'\\', ..] => return Err(format!("'{word}' has a \\ that is not the beginning of \\xNN")),
            [plain, after @ ..] => {
                bytes.push(*plain);
                after
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::key_value::{Action, Answer};

    #[test]
    fn any_bytes_are_one_word() {
        for bytes in [&b""[..], b"''", b"->", b"a b", b"\\x20", b"\xff\n", "é".as_bytes()] {
            let word = Word(bytes).to_string();
            assert!(!word.contains([' ', '>', '\n']), "{word}");
            assert_eq!(unescape(&word).unwrap(), bytes, "{word}");
        }
        for wrong in ["\\", "\\x", "\\x1", "\\xg0", "\\y00"] {
            assert!(unescape(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named() {
        let read = |text: &str| read::<Action, Answer>(text).unwrap_err().to_string();
        assert_eq!(read("# one\n\n1 k 1..2 get"), "line 3: there is no ' -> ' between the action and the outcome");
        assert_eq!(read("1 k 1..2 -> missing"), "line 1: the action is missing");
        assert_eq!(read("1 k 1-2 get -> missing"), "line 1: '1-2' is no time: expected BEGAN..ENDED");
        assert_eq!(read("1 k 3..2 get -> missing"), "line 1: it ended at 2, before it began at 3");
        assert_eq!(read("-1 k 1..2 get -> missing"), "line 1: '-1' is not a number from 0 to 18446744073709551615");
    }
}
