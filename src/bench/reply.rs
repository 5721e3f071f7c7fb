//! Replies, as far as a load generator looks at them: where each ends, and whether it is an error.

/// The longest line and the longest string that are waited for.
const LINE_BYTES: usize = 64 << 10;
const STRING_BYTES: usize = 64 << 20;

/// What was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// A status, a number or a string.
    Done,
    /// No such key, or the list is empty.
    Nil,
    /// An error: its first word.
    Error(&'a str),
}

/// These bytes are no reply, or none to what was asked.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

/// The reply that these bytes begin with, and how long it is. `None`: it is not complete.
pub fn first(bytes: &[u8]) -> Result<Option<(Reply<'_>, usize)>, Malformed> {
    let Some(end) = bytes.iter().take(LINE_BYTES).position(|&byte| byte == b'\n') else {
        return if bytes.len() < LINE_BYTES { Ok(None) } else { Err(Malformed) };
    };
    let line = bytes.get(..end).and_then(|line| line.strip_suffix(b"\r")).ok_or(Malformed)?;
    let reply = match line.split_first() {
        Some((b'+' | b':', _)) => Reply::Done,
        Some((b'-', text)) => Reply::Error(word(text)),
        Some((b'$', b"-1")) => Reply::Nil,
        Some((b'$', length)) => return string(bytes, end + 1, length),
        _ => return Err(Malformed),
    };
    Ok(Some((reply, end + 1)))
}

fn string<'a>(bytes: &'a [u8], start: usize, length: &[u8]) -> Result<Option<(Reply<'a>, usize)>, Malformed> {
    let length: usize = str::from_utf8(length).ok().and_then(|text| text.parse().ok()).ok_or(Malformed)?;
    if length > STRING_BYTES {
        return Err(Malformed);
    }
    let end = start + length;
    match bytes.get(end..end + 2) {
        Some(b"\r\n") => Ok(Some((Reply::Done, end + 2))),
        Some(_) => Err(Malformed),
        None => Ok(None),
    }
}

/// The first word of an error, which says what kind it is; `ERR` if it is none that could be counted by.
fn word(text: &[u8]) -> &str {
    let word = text.split(|&byte| byte == b' ').next().unwrap_or_default();
    match str::from_utf8(word) {
        Ok(word) if (1..=16).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_uppercase()) => word,
        _ => "ERR",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_of_every_kind() {
        for (bytes, reply) in [
            (&b"+OK\r\n"[..], Reply::Done),
            (b":12\r\n", Reply::Done),
            (b"$3\r\na\r\n\r\n", Reply::Done),
            (b"$0\r\n\r\n", Reply::Done),
            (b"$-1\r\n", Reply::Nil),
            (b"-OVERLOADED wait\r\n", Reply::Error("OVERLOADED")),
            (b"-UNKNOWN\r\n", Reply::Error("UNKNOWN")),
            (b"-no word\r\n", Reply::Error("ERR")),
        ] {
            assert_eq!(first(bytes), Ok(Some((reply, bytes.len()))));
            assert_eq!(first(&[bytes, b"+next"].concat()), Ok(Some((reply, bytes.len()))));
            for length in 0..bytes.len() {
                assert_eq!(first(&bytes[..length]), Ok(None), "{length} bytes");
            }
        }
    }

    #[test]
    fn garbage_and_what_was_not_asked_for_is_refused() {
        for garbage in [&b"HTTP/1.1 400\r\n"[..], b"\r\n", b"+a\n", b"$2\r\nabcd", b"$x\r\n", b"*1\r\n:1\r\n"] {
            assert_eq!(first(garbage), Err(Malformed), "{garbage:?}");
        }
        assert_eq!(first(b"$99999999999\r\n"), Err(Malformed));
        assert_eq!(first(&vec![b'+'; LINE_BYTES]), Err(Malformed));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_can_make_it_panic(bytes: Vec<u8>) {
            let _ = first(&bytes);
        }
    }
}
