//! A request as the endpoints take it: read whole, its path and query decoded.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, EXPECT};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use percent_encoding::percent_decode;
use serde::de::DeserializeOwned;

use super::Gateway;
use super::answer::Refusal;
use super::socket::Client;
use super::traffic::Share;
use crate::transport::Failure;

/// Bytes of a body that is too large which are still read, and dropped, so that its client gets to read why.
const DRAINED_BYTES: u64 = 64 << 20;

/// A request.
pub struct Call {
    pub client: Client,
    pub method: Method,
    /// Path and query as they came.
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    _share: Share,
    /// What stands in the path for the parameters of its route, decoded.
    pub parameters: Vec<Bytes>,
}

impl Call {
    /// Reads a request.
    pub async fn read(gateway: &Gateway, client: Client, parts: Parts, body: Body) -> Result<Call, Refusal> {
        let limit = gateway.options.max_request_bytes;
        let announced = parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if parts.headers.contains_key(EXPECT) && announced.is_some_and(|length| length > limit) {
            // The client waits to be told whether it is to send it.
            return Err(Refusal::too_large(limit));
        }
        let mut share = gateway.input_bytes.share(0);
        let body = read_body(body, limit, gateway, &mut share).await?;
        let target = parts.uri.path_and_query().map_or_else(|| parts.uri.path().into(), |target| target.to_string());
        let Parts { method, headers, .. } = parts;
        Ok(Call { client, method, target, headers, body, _share: share, parameters: Vec::new() })
    }

    /// The parameter in the path, of which there is one.
    pub fn name(&self) -> Bytes {
        self.parameters.first().cloned().unwrap_or_default()
    }

    /// The parameters of the query, which have these names.
    pub fn query(&self, names: &[&str]) -> Result<Query, Refusal> {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        let mut values = BTreeMap::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decoded(&name.replace('+', " ")), decoded(&value.replace('+', " ")));
            let name = String::from_utf8_lossy(&name).into_owned();
            if !names.contains(&&name[..]) {
                let why = format!("there is no parameter {name:?} here, but: {}", names.join(", "));
                return Err(Refusal::malformed(why));
            }
            if values.insert(name, value).is_some() {
                return Err(Refusal::malformed("a parameter of the query comes twice"));
            }
        }
        Ok(Query(values))
    }

    /// The body, which must be a JSON object.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        let body = self.body.trim_ascii_start();
        if !body.starts_with(b"{") {
            // The fields alone, in a list, would do for the deserializer.
            let why = if body.is_empty() { ", but is empty" } else { "" };
            return Err(Refusal::malformed(format!("the body should be a JSON object{why}")));
        }
        serde_json::from_slice(body).map_err(|error| Refusal::malformed(format!("in the body: {error}")))
    }
}

/// The parameters of a query, decoded.
pub struct Query(BTreeMap<String, Bytes>);

impl Query {
    /// A parameter; one that is there without a value is as good as none.
    pub fn get(&self, name: &str) -> Option<Bytes> {
        self.0.get(name).filter(|value| !value.is_empty()).cloned()
    }

    /// A number within these limits.
    pub fn number(&self, name: &str, default: u64, allowed: RangeInclusive<u64>) -> Result<u64, Refusal> {
        let Some(value) = self.get(name) else { return Ok(default) };
        let number = std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok());
        number.filter(|number| allowed.contains(number)).ok_or_else(|| {
            let (least, most) = (allowed.start(), allowed.end());
            let value = String::from_utf8_lossy(&value);
            Refusal::malformed(format!("{name} is {value:?}, but should be a number from {least} to {most}"))
        })
    }
}

/// Reads a body whole, or up to where it is too large.
async fn read_body(mut body: Body, limit: u64, gateway: &Gateway, share: &mut Share) -> Result<Bytes, Refusal> {
    let (mut bytes, mut length) = (BytesMut::new(), 0u64);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Refusal::malformed(format!("the body cannot be read: {error}")))?;
        let Some(data) = frame.data_ref() else { continue };
        length = length.saturating_add(data.len() as u64);
        if length <= limit {
            if gateway.input_bytes.is_too_much() {
                gateway.traffic.too_many_bytes.add(1);
                let why = "too many bytes of requests are being served; try again later";
                return Err(Failure::Overloaded(why.into()).into());
            }
            share.grow(data.len());
            bytes.extend_from_slice(data);
        } else if length > limit.saturating_add(DRAINED_BYTES) {
            break;
        }
    }
    if length > limit {
        gateway.traffic.too_large.add(1);
        return Err(Refusal::too_large(limit));
    }
    Ok(bytes.freeze())
}

/// What percent signs stand for; one that stands for nothing stands for itself.
pub fn decoded(raw: &str) -> Bytes {
    percent_decode(raw.as_bytes()).collect::<Vec<u8>>().into()
}
