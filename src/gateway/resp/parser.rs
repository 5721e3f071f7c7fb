//! Requests out of bytes: arrays of bulk strings, and inline commands as a person types them.
//!
//! Written here because the parser crates at hand (`redis-protocol` 6) parse any frame and not just requests: they
//! recurse without limit into nested arrays, start over at the first byte whenever more bytes arrive, wait for as many
//! bytes as a length promises, and know no inline commands. A request is far simpler than a frame.

use std::borrow::Cow;
use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};

/// Most arguments of a request, as in Redis. Nothing is allocated for arguments that have not arrived.
const MAX_ARGUMENTS: u64 = 1 << 20;
/// Longest argument that is read, as in Redis. What exceeds the request limit is read but not kept.
const MAX_BULK_BYTES: u64 = 512 << 20;
/// Longest inline command, as in Redis.
const MAX_INLINE_BYTES: usize = 64 << 10;
/// Longest line that announces a length, its line end included.
const MAX_HEADER_BYTES: usize = 32;
/// Room for arguments that a connection keeps from one request to the next.
const KEPT_ARGUMENTS: usize = 64;

/// Takes requests off the front of a connection's input. Remembers how far it has looked, so that every byte is looked
/// at once however the bytes arrive.
pub struct Parser {
    max_request_bytes: u64,
    state: State,
    /// Bytes at the front of the input that belong to the request at hand and were looked at.
    parsed: usize,
    /// Where in the input the arguments are that have arrived.
    arguments: Vec<Range<usize>>,
    /// Bytes of the request at hand that were dropped from the input, since it is larger than allowed.
    dropped: u64,
}

/// Where in a request the input stands.
#[derive(Clone, Copy)]
enum State {
    /// At its first byte, or within an inline command.
    Start,
    /// Before the length of an argument; so many arguments are still to come.
    Length { missing: u64 },
    /// Before the bytes of an argument, and so many more arguments after it.
    Argument { length: usize, missing: u64 },
    /// Before so many bytes of an argument that is not kept, its line end included, and so many more arguments.
    Skip { length: usize, missing: u64 },
}

/// What was found at the front of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A request.
    Request,
    /// A request of so many bytes, more than allowed. It was skipped.
    TooLarge(u64),
    /// Nothing complete.
    Incomplete,
}

/// The bytes are no request, and what follows them cannot be understood either. The text is for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtocolError(pub Cow<'static, str>);

fn broken<T>(why: impl Into<Cow<'static, str>>) -> Result<T, ProtocolError> {
    Err(ProtocolError(why.into()))
}

impl Parser {
    /// A parser that skips requests of more bytes, as they come over the wire.
    pub fn new(max_request_bytes: u64) -> Self {
        Parser { max_request_bytes, state: State::Start, parsed: 0, arguments: Vec::new(), dropped: 0 }
    }

    /// Takes the next request off `input`, its arguments into `arguments`, which is emptied first. They share the
    /// memory of `input`.
    pub fn next(&mut self, input: &mut BytesMut, arguments: &mut Vec<Bytes>) -> Result<Parsed, ProtocolError> {
        arguments.clear();
        arguments.shrink_to(KEPT_ARGUMENTS);
        loop {
            let step = match self.state {
                State::Start => match input.first() {
                    None => None,
                    Some(b'*') => self.count(input)?,
                    Some(_) => match self.inline(input, arguments)? {
                        Some(()) if arguments.is_empty() => Some(State::Start),
                        Some(()) => return Ok(Parsed::Request),
                        None => None,
                    },
                },
                State::Length { missing: 0 } => return Ok(self.finish(input, arguments)),
                State::Length { missing } => self.length(input, missing)?,
                State::Argument { length, missing } => self.argument(input, length, missing)?,
                State::Skip { length, missing } => self.skip(input, length, missing),
            };
            match step {
                Some(state) => self.state = state,
                None => return Ok(Parsed::Incomplete),
            }
        }
    }

    /// `*3\r\n`
    fn count(&mut self, input: &mut BytesMut) -> Result<Option<State>, ProtocolError> {
        let Some(line) = header(input, "too big mbulk count string")? else { return Ok(None) };
        let size = line.len() + 2;
        match number(line.get(1..).unwrap_or_default()) {
            // As in Redis: an array of nothing, or less, is no request.
            Some(Number { negative: true, .. } | Number { value: 0, .. }) => {
                input.advance(size);
                Ok(Some(State::Start))
            }
            Some(Number { value, .. }) if value <= MAX_ARGUMENTS => {
                self.parsed = size;
                Ok(Some(State::Length { missing: value }))
            }
            _ => broken("invalid multibulk length"),
        }
    }

    /// `$5\r\n`
    fn length(&mut self, input: &mut BytesMut, missing: u64) -> Result<Option<State>, ProtocolError> {
        let rest = input.get(self.parsed..).unwrap_or_default();
        match rest.first() {
            None => return Ok(None),
            Some(b'$') => {}
            Some(other) => return broken(format!("expected '$', got '{}'", other.escape_ascii())),
        }
        let Some(line) = header(rest, "too big bulk count string")? else { return Ok(None) };
        let length = match number(line.get(1..).unwrap_or_default()) {
            Some(Number { negative: false, value }) if value <= MAX_BULK_BYTES => value as usize,
            _ => return broken("invalid bulk length"),
        };
        self.parsed += line.len() + 2;
        if self.size() + length as u64 + 2 > self.max_request_bytes {
            self.arguments.clear();
            self.drop_parsed(input);
            return Ok(Some(State::Skip { length: length + 2, missing: missing - 1 }));
        }
        Ok(Some(State::Argument { length, missing: missing - 1 }))
    }

    /// `hello\r\n`
    fn argument(&mut self, input: &[u8], length: usize, missing: u64) -> Result<Option<State>, ProtocolError> {
        let bytes = self.parsed..self.parsed + length;
        match input.get(bytes.end..bytes.end + 2) {
            None => Ok(None),
            Some(b"\r\n") => {
                self.parsed = bytes.end + 2;
                self.arguments.push(bytes);
                Ok(Some(State::Length { missing }))
            }
            Some(_) => broken("expected a line end after a bulk string"),
        }
    }

    /// An argument of a request that is too large.
    fn skip(&mut self, input: &mut BytesMut, length: usize, missing: u64) -> Option<State> {
        self.parsed = length.min(input.len());
        let length = length - self.parsed;
        self.drop_parsed(input);
        if length > 0 {
            self.state = State::Skip { length, missing };
            return None;
        }
        Some(State::Length { missing })
    }

    /// All arguments are there.
    fn finish(&mut self, input: &mut BytesMut, arguments: &mut Vec<Bytes>) -> Parsed {
        self.state = State::Start;
        let parsed = std::mem::take(&mut self.parsed);
        if self.dropped > 0 {
            return Parsed::TooLarge(std::mem::take(&mut self.dropped));
        }
        let request = input.split_to(parsed).freeze();
        arguments.extend(self.arguments.drain(..).map(|range| request.slice(range)));
        self.arguments.shrink_to(KEPT_ARGUMENTS);
        Parsed::Request
    }

    /// `set key "a value"`. Gives nothing while the line is incomplete; a blank line has no arguments.
    fn inline(&mut self, input: &mut BytesMut, arguments: &mut Vec<Bytes>) -> Result<Option<()>, ProtocolError> {
        let unseen = input.get(self.parsed..).unwrap_or_default();
        let Some(position) = unseen.iter().position(|byte| *byte == b'\n') else {
            self.parsed = input.len();
            return if self.parsed > MAX_INLINE_BYTES { broken("too big inline request") } else { Ok(None) };
        };
        let line = input.split_to(std::mem::take(&mut self.parsed) + position + 1);
        if line.len() > MAX_INLINE_BYTES {
            return broken("too big inline request");
        }
        if !split_words(&line, arguments) {
            return broken("unbalanced quotes in request");
        }
        // What a browser sends first, when a web page makes it talk to this port.
        let web = |word: &Bytes| word.eq_ignore_ascii_case(b"POST") || word.eq_ignore_ascii_case(b"Host:");
        if arguments.first().is_some_and(web) {
            return broken("this is not an HTTP server");
        }
        Ok(Some(()))
    }

    /// Bytes of the request at hand so far.
    fn size(&self) -> u64 {
        self.dropped + self.parsed as u64
    }

    fn drop_parsed(&mut self, input: &mut BytesMut) {
        self.dropped = self.size();
        input.advance(std::mem::take(&mut self.parsed));
    }
}

/// The line at the front of `input`, without its end; `None` while there is no end.
fn header<'a>(input: &'a [u8], too_long: &'static str) -> Result<Option<&'a [u8]>, ProtocolError> {
    let window = input.get(..MAX_HEADER_BYTES).unwrap_or(input);
    match window.windows(2).position(|pair| pair == b"\r\n") {
        Some(end) => Ok(window.get(..end)),
        None if window.len() == MAX_HEADER_BYTES => broken(too_long),
        None => Ok(None),
    }
}

struct Number {
    negative: bool,
    value: u64,
}

/// A decimal number; `None` if it is none, or too large.
fn number(digits: &[u8]) -> Option<Number> {
    let (negative, digits) = match digits {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let value = digits.iter().try_fold(0u64, |value, digit| {
        let digit = char::from(*digit).to_digit(10)?;
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })?;
    Some(Number { negative, value })
}

/// Splits an inline command into words, with quotes and escapes as in Redis; `false` if a quote is not closed, or goes on
/// behind its end.
fn split_words(line: &[u8], words: &mut Vec<Bytes>) -> bool {
    let mut rest = line.trim_ascii_start();
    while !rest.is_empty() {
        let mut word = Vec::new();
        let Some(after) = take_word(rest, &mut word) else { return false };
        words.push(word.into());
        rest = after.trim_ascii_start();
    }
    true
}

fn take_word<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let after_quote = match rest {
            [] => return Some(rest),
            [blank, ..] if blank.is_ascii_whitespace() => return Some(rest),
            [b'"', quoted @ ..] => take_double_quoted(quoted, word)?,
            [b'\'', quoted @ ..] => take_single_quoted(quoted, word)?,
            [byte, after @ ..] => {
                word.push(*byte);
                rest = after;
                continue;
            }
        };
        let at_end = after_quote.first().is_none_or(u8::is_ascii_whitespace);
        return at_end.then_some(after_quote);
    }
}

fn take_double_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, after) = match rest {
            [] => return None,
            [b'"', after @ ..] => return Some(after),
            [b'\\', b'x', high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or(0) as u8;
                (digit(*high) << 4 | digit(*low), after)
            }
            [b'\\', escaped, after @ ..] => (unescape(*escaped), after),
            [byte, after @ ..] => (*byte, after),
        };
        word.push(byte);
        rest = after;
    }
}

fn take_single_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, after) = match rest {
            [] => return None,
            [b'\'', after @ ..] => return Some(after),
            [b'\\', b'\'', after @ ..] => (b'\'', after),
            [byte, after @ ..] => (*byte, after),
        };
        word.push(byte);
        rest = after;
    }
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: u64 = 1000;

    /// What comes out of a parser: requests, sizes of requests that are too large, and the error it ended with.
    #[derive(Debug, Default, PartialEq)]
    struct Seen {
        requests: Vec<Vec<Bytes>>,
        too_large: Vec<u64>,
        error: Option<ProtocolError>,
        left: usize,
    }

    /// Feeds pieces of input to a parser.
    fn parse<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Seen {
        let (mut parser, mut input, mut arguments) = (Parser::new(LIMIT), BytesMut::new(), Vec::new());
        let mut seen = Seen::default();
        for piece in pieces {
            input.extend_from_slice(piece);
            loop {
                match parser.next(&mut input, &mut arguments) {
                    Ok(Parsed::Request) => seen.requests.push(arguments.clone()),
                    Ok(Parsed::TooLarge(size)) => seen.too_large.push(size),
                    Ok(Parsed::Incomplete) => break,
                    Err(error) => {
                        seen.error = Some(error);
                        return seen;
                    }
                }
            }
        }
        seen.left = input.len();
        seen
    }

    fn whole(bytes: &[u8]) -> Seen {
        parse([bytes])
    }

    fn requests(bytes: &[u8]) -> Vec<Vec<Bytes>> {
        let seen = whole(bytes);
        assert_eq!((seen.error, seen.too_large.len(), seen.left), (None, 0, 0), "{}", bytes.escape_ascii());
        seen.requests
    }

    fn error(bytes: &[u8]) -> String {
        whole(bytes).error.map(|error| error.0.into_owned()).unwrap_or_default()
    }

    const PIPELINE: &[u8] =
        b"*1\r\n$4\r\nPING\r\n*0\r\n\r\nset k 'a b'\r\n*-1\r\n*3\r\n$3\r\nSET\r\n$0\r\n\r\n$7\r\na\r\n$1\r\n\r\n\
        get \"\\x41\\n\"\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";

    #[test]
    fn arrays_and_inline_commands_mix() {
        let expected: Vec<Vec<Bytes>> = vec![
            vec!["PING".into()],
            vec!["set".into(), "k".into(), "a b".into()],
            vec!["SET".into(), "".into(), "a\r\n$1\r\n".into()],
            vec!["get".into(), "A\n".into()],
            vec!["GET".into(), "k".into()],
        ];
        assert_eq!(requests(PIPELINE), expected);
    }

    #[test]
    fn however_the_bytes_arrive_the_requests_are_the_same() {
        let large = format!("*2\r\n$3\r\nGET\r\n$2000\r\n{}\r\n*1\r\n$4\r\nPING\r\n", "x".repeat(2000));
        for bytes in [PIPELINE, large.as_bytes(), b"*1\r\n$4\r\nPING\r\n*1\r\n!"] {
            let expected = whole(bytes);
            assert_eq!(parse(bytes.chunks(1)), expected, "byte by byte");
            for split in 0..=bytes.len() {
                let (front, back) = bytes.split_at(split);
                assert_eq!(parse([front, back]), expected, "split at {split}");
            }
        }
    }

    #[test]
    fn inline_commands_are_split_as_redis_does() {
        let words = |line: &str| -> String {
            let words = requests(format!("{line}\r\n").as_bytes()).concat();
            words.iter().map(|word| format!("<{}>", word.escape_ascii())).collect()
        };
        assert_eq!(words("  a  b\tc "), "<a><b><c>");
        assert_eq!(words(r#"a "" '' "#), "<a><><>");
        assert_eq!(words(r#"a"b c""#), "<ab c>");
        assert_eq!(words(r#""\n\r\t\b\a\q\"\x0g""#), r#"<\n\r\t\x08\x07q\"x0g>"#);
        assert_eq!(words(r"'\n\' \x41'"), r"<\\n\' \\x41>");
        for unbalanced in [r#"get "a"#, "get 'a", r#"get "a"b"#, r#"get "\"#] {
            assert_eq!(error(format!("{unbalanced}\r\n").as_bytes()), "unbalanced quotes in request");
        }
        assert_eq!(error(b"POST / HTTP/1.1\r\n"), "this is not an HTTP server");
        assert_eq!(error(&[b'x'; MAX_INLINE_BYTES + 1]), "too big inline request");
    }

    #[test]
    fn lengths_are_checked_before_anything_is_allocated() {
        for count in ["2147483647", "9223372036854775807", "99999999999999999999999999", "", "-", "x", "1048577", "+1"]
        {
            assert_ne!(error(format!("*{count}\r\n").as_bytes()), "", "{count}");
        }
        for length in ["9223372036854775807", "18446744073709551615", "2147483647", "-1", "-9", "", "x", "1 "] {
            assert_eq!(error(format!("*1\r\n${length}\r\n").as_bytes()), "invalid bulk length");
        }
        assert_eq!(error(&[b"*", &[b'1'; 40][..]].concat()), "too big mbulk count string");
        assert_eq!(error(&[b"*1\r\n$", &[b'0'; 40][..]].concat()), "too big bulk count string");
        assert_eq!(error(b"*1\r\n*1\r\n$1\r\na\r\n"), "expected '$', got '*'");
        assert_eq!(error(b"*1\r\n$1\r\nabc"), "expected a line end after a bulk string");
        let mut parser = Parser::new(LIMIT);
        let mut input = BytesMut::from(&b"*1048576\r\n$1\r\n"[..]);
        assert_eq!(parser.next(&mut input, &mut Vec::new()), Ok(Parsed::Incomplete));
        assert!(parser.arguments.capacity() <= KEPT_ARGUMENTS);
    }

    #[test]
    fn the_limit_is_exact_and_what_exceeds_it_is_skipped() {
        let request = |size: usize| {
            let mut bytes = b"*2\r\n$3\r\nGET\r\n".to_vec();
            let length = size - bytes.len() - "$980\r\n\r\n".len();
            bytes.extend_from_slice(format!("${length}\r\n{}\r\n", "x".repeat(length)).as_bytes());
            assert_eq!(bytes.len(), size);
            bytes
        };
        let limit = LIMIT as usize;
        assert_eq!(requests(&request(limit)).len(), 1);
        let next = b"*1\r\n$4\r\nPING\r\n";
        let seen = whole(&[&request(limit + 1)[..], next].concat());
        assert_eq!(
            seen,
            Seen { requests: vec![vec!["PING".into()]], too_large: vec![LIMIT + 1], error: None, left: 0 }
        );
        let many = [&b"*500\r\n"[..], &b"$0\r\n\r\n".repeat(500), next].concat();
        let seen = whole(&many);
        assert_eq!((seen.requests.len(), seen.too_large.len(), seen.left), (1, 1, 0));
    }

    #[test]
    fn skipped_bytes_do_not_pile_up() {
        let (mut parser, mut input, mut arguments) = (Parser::new(LIMIT), BytesMut::new(), Vec::new());
        input.extend_from_slice(b"*1\r\n$536870912\r\n");
        for _ in 0..100 {
            input.extend_from_slice(&[b'x'; 1000]);
            assert_eq!(parser.next(&mut input, &mut arguments), Ok(Parsed::Incomplete));
            assert!(input.is_empty());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in "[*$0-9a\r\n\"'\\\\-]{0,80}", cut in 0usize..80) {
            let bytes = bytes.as_bytes();
            let (front, back) = bytes.split_at(cut.min(bytes.len()));
            prop_assert_eq!(parse([front, back]), whole(bytes));
        }

        #[test]
        fn no_change_of_one_byte_makes_it_panic(flip in 1u8..) {
            for position in 0..PIPELINE.len() {
                let mut bytes = PIPELINE.to_vec();
                bytes[position] ^= flip;
                prop_assert_eq!(parse(bytes.chunks(1)), whole(&bytes));
            }
        }
    }
}
