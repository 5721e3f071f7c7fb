//! Maelstrom's envelope: who says what to whom.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::value::RawValue;

use crate::codec::json::Object;
use crate::transport::stdio::Output;

/// A message as it came in.
pub struct Incoming<'a> {
    /// The sender.
    pub src: String,
    /// Whom it is for, or why that is not clear.
    pub dest: Result<String, String>,
    /// What it says, not looked into.
    pub body: &'a RawValue,
}

impl<'a> Incoming<'a> {
    /// Parses a line. Fails, saying why, if it is no message, or one that nobody could answer.
    pub fn parse(line: &'a [u8]) -> Result<Self, String> {
        let message = Object::parse(std::str::from_utf8(line).map_err(|error| error.to_string())?)?;
        Ok(Incoming { src: message.field("src")?, dest: message.field("dest"), body: message.required("body")? })
    }

    /// Looks into the body. `Ok(None)`: it is the answer to something that was never asked. Fails, saying why, if the
    /// body is one that cannot be answered.
    pub fn request(&self) -> Result<Option<Request<'a>>, String> {
        let body = Object::parse(self.body.get()).map_err(|why| format!("the field `body`: {why}"))?;
        if body.get("in_reply_to").is_some() {
            return Ok(None);
        }
        Ok(Some(Request { kind: body.field("type"), msg_id: body.field("msg_id")?, body }))
    }

    /// Where the answer goes, from the node of this name.
    pub fn address(&self, me: &str, msg_id: i64) -> Address {
        Address { src: me.to_owned(), dest: self.src.clone(), in_reply_to: msg_id }
    }
}

/// The body of a request.
pub struct Request<'a> {
    /// Its type, or why that is not clear.
    pub kind: Result<String, String>,
    /// Names the request in the answer.
    pub msg_id: i64,
    /// All its fields.
    pub body: Object<'a>,
}

/// Where an answer goes, and what it answers.
pub struct Address {
    src: String,
    dest: String,
    in_reply_to: i64,
}

impl Address {
    /// Queues an answer.
    pub fn queue(&self, output: &Output, body: &Body) {
        let body = InReply { body, in_reply_to: self.in_reply_to };
        output.line(&Outgoing { src: &self.src, dest: &self.dest, body });
    }

    /// Writes an answer.
    pub fn answer(&self, output: &Output, body: &Body) {
        self.queue(output, body);
        output.flush();
    }
}

#[derive(Serialize)]
struct Outgoing<'a> {
    src: &'a str,
    dest: &'a str,
    body: InReply<'a>,
}

#[derive(Serialize)]
struct InReply<'a> {
    #[serde(flatten)]
    body: &'a Body,
    in_reply_to: i64,
}

/// What an answer says.
#[derive(Debug)]
pub struct Body {
    kind: String,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Nothing,
    Field(&'static str, Box<RawValue>),
    Error(ErrorCode, String),
}

impl Body {
    /// A request of this type has been carried out.
    pub fn ok(request: &str) -> Self {
        Body { kind: format!("{request}_ok"), content: Content::Nothing }
    }

    /// A request of this type has been carried out, and this field says what came of it.
    pub fn with(request: &str, name: &'static str, value: Box<RawValue>) -> Self {
        Body { content: Content::Field(name, value), ..Body::ok(request) }
    }

    /// The same with a value that is made of what is stored. An error if that is not JSON.
    pub fn json(request: &str, name: &'static str, value: String) -> Self {
        match RawValue::from_string(value) {
            Ok(value) => Body::with(request, name, value),
            Err(error) => Body::error(ErrorCode::Crash, format!("what is stored is not JSON: {error}")),
        }
    }

    /// A request has failed.
    pub fn error(code: ErrorCode, text: impl Into<String>) -> Self {
        Body { kind: "error".into(), content: Content::Error(code, text.into()) }
    }
}

impl Serialize for Body {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", &self.kind)?;
        match &self.content {
            Content::Nothing => {}
            Content::Field(name, value) => map.serialize_entry(name, value)?,
            Content::Error(code, text) => {
                map.serialize_entry("code", code)?;
                map.serialize_entry("text", text)?;
            }
        }
        map.end()
    }
}

/// Maelstrom's error codes. All but [`Crash`](ErrorCode::Crash) say that the request did not and will not take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// There is no such type of request.
    NotSupported = 10,
    /// No leader, too much to do, or stopping.
    TemporarilyUnavailable = 11,
    /// A field is missing or of the wrong type.
    MalformedRequest = 12,
    /// The outcome is unknown.
    Crash = 13,
    /// There is no such key.
    KeyDoesNotExist = 20,
    /// The value is not the expected one.
    PreconditionFailed = 22,
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(*self as u8)
    }
}
