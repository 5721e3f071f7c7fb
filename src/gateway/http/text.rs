//! Bytes in JSON, without loss: what is text is a plain string.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// In front of the base64 of a name.
const NAME_PREFIX: &str = "base64:";

/// A value, message or name: a string where it is UTF-8, otherwise `{"base64": "..."}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text(pub Bytes);

#[derive(Serialize)]
struct Binary {
    base64: String,
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => Binary { base64: BASE64.encode(&self.0) }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, deny_unknown_fields, expecting = "expected a string, or {\"base64\": \"...\"}")]
        enum Form {
            Plain(String),
            Binary { base64: String },
        }
        match Form::deserialize(deserializer)? {
            Form::Plain(text) => Ok(Text(text.into())),
            Form::Binary { base64 } => match BASE64.decode(base64) {
                Ok(bytes) => Ok(Text(bytes.into())),
                Err(error) => Err(serde::de::Error::custom(format!("invalid base64: {error}"))),
            },
        }
    }
}

/// A name where JSON allows nothing but a string: as it is, or `base64:...` where it is not UTF-8, or begins so itself. No two
/// names look the same.
pub fn name(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.starts_with(NAME_PREFIX) => text.into(),
        _ => format!("{NAME_PREFIX}{}", BASE64.encode(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_every_byte() {
        for bytes in [&b""[..], b"text", "\u{e9}\"\n".as_bytes(), b"base64:eA==", b"\xff\x00", b"a\xc3"] {
            let text = Text(Bytes::copy_from_slice(bytes));
            let json = serde_json::to_string(&text).unwrap();
            assert_eq!(serde_json::from_str::<Text>(&json).unwrap(), text, "{json}");
            assert_eq!(json.starts_with('"'), std::str::from_utf8(bytes).is_ok(), "{json}");
        }
        for wrong in [
            "1",
            "null",
            "[]",
            r#"["eA=="]"#,
            "{}",
            r#"{"base64": 1}"#,
            r#"{"base64": "!"}"#,
            r#"{"base64": "", "x": 1}"#,
        ] {
            assert!(serde_json::from_str::<Text>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn no_two_names_look_the_same() {
        assert_eq!(name(b"plain/\xc3\xa9"), "plain/\u{e9}");
        assert_eq!(name(b"\xff"), "base64:/w==");
        assert_eq!(name(b"base64:/w=="), "base64:YmFzZTY0Oi93PT0=");
    }
}
