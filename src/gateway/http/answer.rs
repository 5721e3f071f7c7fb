//! What clients get: JSON, and the words for every failure.

use std::io;

use axum::body::Body;
use axum::http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use serde::Serialize;
use serde_json::ser::Formatter;

use super::Gateway;
use super::traffic::Share;
use crate::transport::Failure;

/// A stable word for why a request failed.
pub const ERROR: HeaderName = HeaderName::from_static("raft-error");
/// The same for people.
pub const ERROR_MESSAGE: HeaderName = HeaderName::from_static("raft-error-message");

/// Longest text in a header.
const MAX_HEADER_TEXT: usize = 1000;
/// When to try again, in seconds.
const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// What came of a request.
pub type Answered = Result<Response, Refusal>;

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: StatusCode,
    /// A stable word.
    pub error: &'static str,
    /// For people.
    pub message: String,
    /// The request itself makes no sense: its client is told so in the body, whatever it compares.
    malformed: bool,
    /// The methods that there are instead.
    allow: Option<String>,
}

impl Refusal {
    /// A failure of a request that makes sense.
    pub fn new(status: StatusCode, error: &'static str, message: impl Into<String>) -> Self {
        Refusal { status, error, message: message.into(), malformed: false, allow: None }
    }

    /// The request makes no sense.
    pub fn malformed(message: impl Into<String>) -> Self {
        Refusal { malformed: true, ..Refusal::new(StatusCode::BAD_REQUEST, "bad_request", message) }
    }

    pub fn too_large(limit: u64) -> Self {
        let message = format!("the request's body has more bytes than MaxRequestBytes = {limit}");
        Refusal { malformed: true, ..Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message) }
    }

    pub fn unknown_path(path: &str) -> Self {
        let message = format!("there is nothing at {path}; GET /openapi.json tells what there is");
        Refusal { malformed: true, ..Refusal::new(StatusCode::NOT_FOUND, "unknown_path", message) }
    }

    pub fn method_not_allowed(method: &Method, allow: String) -> Self {
        let message = format!("{method} is not possible here, but {allow}");
        let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message);
        Refusal { malformed: true, allow: Some(allow), ..refusal }
    }

    pub fn too_slow() -> Self {
        let message = "the request's body did not arrive in time";
        Refusal { malformed: true, ..Refusal::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message) }
    }

    pub fn no_such_topic() -> Self {
        Refusal::new(StatusCode::NOT_FOUND, "no_such_topic", "there is no such topic")
    }

    pub fn wrong_type() -> Self {
        let message = "the name is taken: keys and topics share their names";
        Refusal::new(StatusCode::CONFLICT, "wrong_type", message)
    }

    pub fn revision_mismatch() -> Self {
        Refusal::new(StatusCode::PRECONDITION_FAILED, "revision_mismatch", "the key has another revision, or none")
    }

    /// The machine's answer is to another question.
    pub fn another() -> Self {
        Refusal::unreadable("it answers another question")
    }

    /// There is an answer, so the request ran; but nobody can say with what outcome.
    pub fn unreadable(why: &str) -> Self {
        Failure::Unknown(format!("outcome unknown: the answer cannot be read: {why}")).into()
    }

    /// The answer. Clients that compare it whole are told the reason in headers alone.
    pub fn into_response(self, gateway: &Gateway, compared: bool) -> Response {
        #[derive(Serialize)]
        struct Reasons<'a> {
            success: bool,
            error: &'a str,
            message: &'a str,
        }
        let mut response = if compared && !self.malformed {
            json(gateway, self.status, &Success { success: false })
        } else {
            json(gateway, self.status, &Reasons { success: false, error: self.error, message: &self.message })
        };
        let headers = response.headers_mut();
        headers.insert(ERROR, HeaderValue::from_static(self.error));
        headers.insert(ERROR_MESSAGE, header_text(&self.message));
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, header_text(&allow));
        }
        if matches!(self.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            headers.insert(RETRY_AFTER, RETRY_SECONDS);
        }
        response
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotReady(why) => Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", why),
            Failure::Overloaded(why) => Refusal::new(StatusCode::TOO_MANY_REQUESTS, "overloaded", why),
            Failure::Refused(why) => Refusal::malformed(why),
            Failure::Unknown(why) => Refusal::new(StatusCode::GATEWAY_TIMEOUT, "outcome_unknown", why),
        }
    }
}

/// All that most endpoints say.
#[derive(Serialize)]
pub struct Success {
    pub success: bool,
}

/// `{"success": true}`.
pub fn success(gateway: &Gateway, status: StatusCode) -> Response {
    json(gateway, status, &Success { success: true })
}

/// An answer in JSON.
pub fn json(gateway: &Gateway, status: StatusCode, value: &impl Serialize) -> Response {
    let mut text = Vec::with_capacity(128);
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, Spaced);
    match value.serialize(&mut serializer) {
        Ok(()) => body(gateway, status, "application/json", text),
        Err(error) => {
            let text = format!("cannot write the answer as JSON: {error}\n");
            body(gateway, StatusCode::INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", text.into())
        }
    }
}

/// An answer of this type, counted until its client has taken it.
pub fn body(gateway: &Gateway, status: StatusCode, content_type: &'static str, bytes: Vec<u8>) -> Response {
    let counted = Counted { _share: gateway.output_bytes.share(bytes.len()), bytes };
    let mut response = Response::new(Body::from(Bytes::from_owner(counted)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Bytes on their way to a client.
struct Counted {
    bytes: Vec<u8>,
    _share: Share,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Text that a header can hold: what it cannot is escaped.
fn header_text(text: &str) -> HeaderValue {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            ' '..='~' => escaped.push(character),
            other => escaped.extend(other.escape_default()),
        }
        if escaped.len() >= MAX_HEADER_TEXT {
            break;
        }
    }
    HeaderValue::from_str(&escaped).unwrap_or(HeaderValue::from_static(""))
}

/// JSON on one line, with a space after each colon and comma.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}
