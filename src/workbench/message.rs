//! What nodes write, as far as whoever carries it must know.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

/// A line that is a message.
#[derive(Debug)]
pub struct Message<'a> {
    /// Whom it is for.
    pub dest: Cow<'a, str>,
    /// What it says.
    pub body: &'a RawValue,
    /// The type of that.
    pub kind: Cow<'a, str>,
    /// The request that it answers.
    pub in_reply_to: Option<u64>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    src: Cow<'a, str>,
    #[serde(borrow)]
    dest: Cow<'a, str>,
    #[serde(borrow)]
    body: &'a RawValue,
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    in_reply_to: Option<u64>,
}

impl<'a> Message<'a> {
    /// What the node of this name wrote. Fails, saying what is wrong, where Maelstrom would end the test.
    pub fn parse(node: &str, line: &'a [u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(line).map_err(|error| format!("is not UTF-8: {error}"))?;
        let envelope: Envelope<'_> = serde_json::from_str(text).map_err(|error| format!("is no message: {error}"))?;
        if envelope.src != node {
            return Err(format!("says that {} wrote it, in `src`", envelope.src));
        }
        let head: Head<'_> =
            serde_json::from_str(envelope.body.get()).map_err(|error| format!("has a `body` that is none: {error}"))?;
        let Envelope { dest, body, .. } = envelope;
        Ok(Message { dest, body, kind: head.kind, in_reply_to: head.in_reply_to })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_what_the_protocol_says() {
        let line = br#"{"src":"n1","dest":"c7","body":{"type":"read_ok","in_reply_to":3,"value":{"type":5}},"id":9}"#;
        let message = Message::parse("n1", line).unwrap();
        assert_eq!((&*message.dest, &*message.kind, message.in_reply_to), ("c7", "read_ok", Some(3)));
        for (line, why) in [
            ("started", "is no message"),
            (r#"{"src":"n1","dest":"c7"}"#, "missing field `body`"),
            (r#"{"src":"n1","dest":7,"body":{"type":"x"}}"#, "is no message"),
            (r#"{"src":"n2","dest":"c7","body":{"type":"x"}}"#, "says that n2 wrote it"),
            (r#"{"src":"n1","dest":"c7","body":{}}"#, "missing field `type`"),
            (r#"{"src":"n1","dest":"c7","body":{"type":null}}"#, "`body` that is none"),
            (r#"{"src":"n1","dest":"c7","body":"x"}"#, "`body` that is none"),
        ] {
            let error = Message::parse("n1", line.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{line}: {error}");
        }
    }
}
