//! The Redis protocol from the client's side: requests out, replies in (RESP2).
//!
//! A reply is read as it arrives, and nothing is allocated for bytes that have not: a server that announces a gigabyte
//! and sends ten bytes costs ten bytes.

use std::io::{self, BufRead, Read};

use bytes::Bytes;

/// Most bytes of one reply, on the wire and in memory, all its elements together. Redis allows as much for one string.
const REPLY_BYTES: u64 = 512 << 20;
/// Longest line: a status, an error, a number or a length.
const LINE_BYTES: u64 = 64 << 10;
/// Deepest nesting of arrays.
const DEPTH: usize = 8;
/// Allocated for a string before its first byte is here.
const FIRST_ALLOCATION_BYTES: u64 = 16 << 10;

/// A node's reply to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A status, such as `OK`.
    Simple(String),
    /// An error: a word in capitals, then a text for people.
    Error(String),
    /// A number.
    Integer(i64),
    /// Bytes.
    Bulk(Bytes),
    /// Nothing: no such key, or a condition did not hold.
    Nil,
    /// Several replies.
    Array(Vec<Reply>),
}

/// A request as it goes over the wire.
pub(crate) fn encode(args: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 + args.iter().map(|arg| arg.len() + 16).sum::<usize>());
    out.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
    for arg in args {
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// Reads one reply. [`io::ErrorKind::InvalidData`] means that this is not the protocol, or more than anybody may send.
pub(super) fn read(input: &mut impl BufRead) -> io::Result<Reply> {
    Decoder { input, left_bytes: REPLY_BYTES }.reply(DEPTH)
}

struct Decoder<'a, R> {
    input: &'a mut R,
    left_bytes: u64,
}

impl<R: BufRead> Decoder<'_, R> {
    fn reply(&mut self, depth: usize) -> io::Result<Reply> {
        // However short it is on the wire.
        self.left_bytes = self.left_bytes.saturating_sub(size_of::<Reply>() as u64);
        let line = self.line()?;
        let Some((kind, rest)) = line.split_at_checked(1) else { return Err(malformed("an empty line")) };
        match kind {
            "+" => Ok(Reply::Simple(rest.to_owned())),
            "-" => Ok(Reply::Error(rest.to_owned())),
            ":" => Ok(Reply::Integer(number(rest)?)),
            "$" => self.bulk(number(rest)?),
            "*" => self.array(number(rest)?, depth),
            _ => Err(malformed(&format!("a line that begins with {kind:?}"))),
        }
    }

    fn bulk(&mut self, length: i64) -> io::Result<Reply> {
        let Ok(length) = u64::try_from(length) else { return Ok(Reply::Nil) };
        if length > self.left_bytes {
            return Err(malformed(&format!("a string of {length} bytes")));
        }
        let mut bytes = Vec::with_capacity(length.min(FIRST_ALLOCATION_BYTES) as usize + 2);
        self.input.take(length + 2).read_to_end(&mut bytes)?;
        self.left_bytes = self.left_bytes.saturating_sub(length + 2);
        if (bytes.len() as u64) < length + 2 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match bytes.strip_suffix(b"\r\n").map(<[u8]>::len) {
            Some(length) => {
                bytes.truncate(length);
                Ok(Reply::Bulk(bytes.into()))
            }
            None => Err(malformed("a string longer than its length says")),
        }
    }

    fn array(&mut self, count: i64, depth: usize) -> io::Result<Reply> {
        let Ok(count) = u64::try_from(count) else { return Ok(Reply::Nil) };
        if depth == 0 {
            return Err(malformed(&format!("arrays more than {DEPTH} deep")));
        }
        // Not `with_capacity(count)`: the elements have yet to arrive.
        (0..count).map(|_| self.reply(depth - 1)).collect::<io::Result<Vec<_>>>().map(Reply::Array)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        let limit = LINE_BYTES.min(self.left_bytes);
        self.input.take(limit).read_until(b'\n', &mut line)?;
        self.left_bytes -= line.len() as u64;
        let full = line.len() as u64 == limit;
        match line.strip_suffix(b"\r\n") {
            Some(line) => Ok(String::from_utf8_lossy(line).into_owned()),
            None if full || line.ends_with(b"\n") => Err(malformed("a line that is too long or does not end in CR LF")),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

fn number(text: &str) -> io::Result<i64> {
    text.parse().map_err(|_| malformed(&format!("{text:?} where a number belongs")))
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("this is not the Redis protocol: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8]) -> io::Result<Reply> {
        read(&mut io::BufReader::with_capacity(7, bytes))
    }

    fn kind(bytes: &[u8]) -> io::ErrorKind {
        decode(bytes).expect_err("must not decode").kind()
    }

    #[test]
    fn requests_carry_any_bytes() {
        assert_eq!(encode(&[b"SET", b"k\r\n", b""]), b"*3\r\n$3\r\nSET\r\n$3\r\nk\r\n\r\n$0\r\n\r\n");
    }

    #[test]
    fn replies_of_every_kind() {
        assert_eq!(decode(b"+OK\r\n").unwrap(), Reply::Simple("OK".into()));
        assert_eq!(decode(b"-ERR no\r\n").unwrap(), Reply::Error("ERR no".into()));
        assert_eq!(decode(b":-3\r\n").unwrap(), Reply::Integer(-3));
        assert_eq!(decode(b"$-1\r\n").unwrap(), Reply::Nil);
        assert_eq!(decode(b"*-1\r\n").unwrap(), Reply::Nil);
        assert_eq!(decode(b"$0\r\n\r\n").unwrap(), Reply::Bulk(Bytes::new()));
        assert_eq!(
            decode(b"*3\r\n$4\r\n\xff\r\n!\r\n:7\r\n*1\r\n+x\r\n").unwrap(),
            Reply::Array(vec![
                Reply::Bulk(Bytes::from_static(b"\xff\r\n!")),
                Reply::Integer(7),
                Reply::Array(vec![Reply::Simple("x".into())]),
            ])
        );
    }

    #[test]
    fn what_breaks_off_is_an_end_of_file() {
        let whole = b"*2\r\n$3\r\nabc\r\n:12\r\n";
        for length in 0..whole.len() {
            assert_eq!(kind(&whole[..length]), io::ErrorKind::UnexpectedEof, "{length} bytes");
        }
    }

    #[test]
    fn lengths_are_not_believed() {
        assert_eq!(kind(b"$500000000\r\nabc"), io::ErrorKind::UnexpectedEof);
        assert_eq!(kind(b"$9223372036854775807\r\nabc"), io::ErrorKind::InvalidData);
        assert_eq!(kind(b"*9223372036854775807\r\n:1\r\n"), io::ErrorKind::UnexpectedEof);
        assert_eq!(kind("*1\r\n".repeat(100).as_bytes()), io::ErrorKind::InvalidData);
        assert_eq!(kind("+".repeat(1 << 20).as_bytes()), io::ErrorKind::InvalidData);
    }

    #[test]
    fn garbage_is_refused() {
        for garbage in
            [&b"HTTP/1.1 400 Bad Request\r\n"[..], b"\r\n", b"\xff\xfe\r\n", b":x\r\n", b"$2\r\nabc\r\n", b"+a\n"]
        {
            assert_eq!(kind(garbage), io::ErrorKind::InvalidData, "{garbage:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_can_make_it_panic(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }
    }
}
