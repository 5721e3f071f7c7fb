//! Replies into bytes, in both versions of the protocol.

use std::borrow::Cow;

use bytes::Bytes;

/// The version of the protocol that a connection speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// RESP2, until the client says otherwise.
    #[default]
    Resp2,
    /// RESP3.
    Resp3,
}

impl Protocol {
    /// Its number, as in `HELLO`.
    pub fn number(self) -> i64 {
        match self {
            Protocol::Resp2 => 2,
            Protocol::Resp3 => 3,
        }
    }
}

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A short text without line ends.
    Simple(&'static str),
    /// An error: a word in capitals that programs look at, and a text for people. Line ends in it are sent as blanks.
    Error(Cow<'static, str>),
    /// A number.
    Integer(i64),
    /// Bytes.
    Bulk(Bytes),
    /// Text for people; plain bytes in RESP2.
    Verbatim(String),
    /// No value.
    Null,
    /// No array.
    NullArray,
    /// Several replies.
    Array(Vec<Frame>),
    /// Pairs; an array of keys and values in RESP2.
    Map(Vec<(Frame, Frame)>),
}

impl Frame {
    /// An error reply.
    pub fn error(text: impl Into<Cow<'static, str>>) -> Frame {
        Frame::Error(text.into())
    }

    /// A text as bytes.
    pub fn text(text: impl Into<Bytes>) -> Frame {
        Frame::Bulk(text.into())
    }

    /// A count, an index or a revision. The protocol's numbers are signed.
    pub fn number(number: u64) -> Frame {
        Frame::Integer(i64::try_from(number).unwrap_or(i64::MAX))
    }

    /// Appends the reply's bytes to `out`.
    pub fn write(&self, protocol: Protocol, out: &mut Vec<u8>) {
        match (self, protocol) {
            (Frame::Simple(text), _) => line(out, b'+', text.as_bytes()),
            (Frame::Error(text), _) => error(out, text),
            (Frame::Integer(number), _) => header(out, b':', *number),
            (Frame::Bulk(bytes), _) => bulk(out, bytes),
            (Frame::Verbatim(text), Protocol::Resp2) => bulk(out, text.as_bytes()),
            (Frame::Verbatim(text), Protocol::Resp3) => {
                header(out, b'=', text.len() + 4);
                out.extend_from_slice(b"txt:");
                line_end(out, text.as_bytes());
            }
            (Frame::Null, Protocol::Resp2) => out.extend_from_slice(b"$-1\r\n"),
            (Frame::NullArray, Protocol::Resp2) => out.extend_from_slice(b"*-1\r\n"),
            (Frame::Null | Frame::NullArray, Protocol::Resp3) => out.extend_from_slice(b"_\r\n"),
            (Frame::Array(elements), _) => {
                header(out, b'*', elements.len());
                elements.iter().for_each(|element| element.write(protocol, out));
            }
            (Frame::Map(pairs), _) => {
                match protocol {
                    Protocol::Resp2 => header(out, b'*', pairs.len() * 2),
                    Protocol::Resp3 => header(out, b'%', pairs.len()),
                }
                for (key, value) in pairs {
                    key.write(protocol, out);
                    value.write(protocol, out);
                }
            }
        }
    }
}

fn header(out: &mut Vec<u8>, kind: u8, number: impl itoa::Integer) {
    line(out, kind, itoa::Buffer::new().format(number).as_bytes());
}

fn line(out: &mut Vec<u8>, kind: u8, text: &[u8]) {
    out.push(kind);
    line_end(out, text);
}

fn line_end(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}

fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    header(out, b'$', bytes.len());
    line_end(out, bytes);
}

fn error(out: &mut Vec<u8>, text: &str) {
    out.push(b'-');
    out.extend(text.bytes().map(|byte| if byte.is_ascii_control() { b' ' } else { byte }));
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_replies() {
        let map = Frame::Map(vec![(Frame::text("a"), Frame::Integer(-1)), (Frame::text("b"), Frame::Null)]);
        let cases: Vec<(Frame, &str, &str)> = vec![
            (Frame::Simple("OK"), "+OK|", "+OK|"),
            (Frame::error("ERR a\r\nb\tc"), "-ERR a  b c|", "-ERR a  b c|"),
            (Frame::Integer(42), ":42|", ":42|"),
            (Frame::number(u64::MAX), ":9223372036854775807|", ":9223372036854775807|"),
            (Frame::text(""), "$0||", "$0||"),
            (Frame::text("hello"), "$5|hello|", "$5|hello|"),
            (Frame::Verbatim("hi".into()), "$2|hi|", "=6|txt:hi|"),
            (Frame::Null, "$-1|", "_|"),
            (Frame::NullArray, "*-1|", "_|"),
            (Frame::Array(vec![]), "*0|", "*0|"),
            (Frame::Array(vec![Frame::Array(vec![Frame::Null])]), "*1|*1|$-1|", "*1|*1|_|"),
            (map, "*4|$1|a|:-1|$1|b|$-1|", "%2|$1|a|:-1|$1|b|_|"),
        ];
        for (frame, resp2, resp3) in cases {
            for (protocol, expected) in [(Protocol::Resp2, resp2), (Protocol::Resp3, resp3)] {
                let mut out = Vec::new();
                frame.write(protocol, &mut out);
                assert_eq!(String::from_utf8_lossy(&out), expected.replace('|', "\r\n"), "{frame:?}");
            }
        }
    }
}
