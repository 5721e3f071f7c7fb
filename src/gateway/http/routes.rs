//! The table of endpoints, and the way to the one that a request wants.

use std::pin::Pin;
use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, HeaderValue};
use axum::http::{Method, Request, StatusCode};
use axum::response::Response;
use bytes::Bytes;

use super::answer::{self, Answered, Refusal};
use super::request::{Call, decoded};
use super::server::BODY_TIMEOUT;
use super::socket::Client;
use super::{Gateway, kv, lease, metrics, queue, status};

type Run = fn(Arc<Gateway>, Call) -> Pin<Box<dyn Future<Output = Answered> + Send>>;

/// An endpoint.
pub struct Route {
    pub method: Method,
    /// The path: `{name}` stands for one segment, or at the end for all that is left, slashes and all.
    pub path: &'static str,
    /// Its clients compare bodies whole: one of a request that makes sense and fails says nothing but that.
    compared: bool,
    run: Run,
}

macro_rules! routes {
    ($($method:ident $path:literal $kind:ident $run:path;)*) => {
        &[$(Route {
            method: Method::$method,
            path: $path,
            compared: routes!(@ $kind),
            run: |gateway, call| Box::pin($run(gateway, call)),
        }),*]
    };
    (@ compared) => { true };
    (@ told) => { false };
}

/// All endpoints.
#[rustfmt::skip]
pub const ROUTES: &[Route] = routes![
    PUT    "/topic"                    compared queue::create;
    GET    "/topic"                    compared queue::list;
    PUT    "/message"                  compared queue::put;
    GET    "/message/{topic}"          compared queue::pop;
    GET    "/status"                   compared status::status;
    GET    "/force-view-state-machine" compared status::force_view;
    GET    "/topic/{topic}"            told     queue::info;
    DELETE "/topic/{topic}"            told     queue::delete;
    POST   "/topic/{topic}/purge"      told     queue::purge;
    POST   "/message/{topic}/receive"  told     lease::receive;
    POST   "/message/{topic}/ack"      told     lease::ack;
    POST   "/message/{topic}/nack"     told     lease::nack;
    POST   "/message/{topic}/extend"   told     lease::extend;
    GET    "/kv"                       told     kv::list;
    GET    "/kv/{key}"                 told     kv::get;
    PUT    "/kv/{key}"                 told     kv::put;
    DELETE "/kv/{key}"                 told     kv::delete;
    GET    "/health"                   told     status::health;
    GET    "/metrics"                  told     metrics::metrics;
    GET    "/openapi.json"             told     openapi;
];

impl Route {
    /// What stands in the path for the route's parameters, if it is the route's.
    fn parameters(&self, path: &str) -> Option<Vec<Bytes>> {
        let mut parameters = Vec::new();
        let mut rest = Some(path.strip_prefix('/')?);
        let mut expected = self.path[1..].split('/').peekable();
        while let Some(segment) = expected.next() {
            let left = rest?;
            let is_parameter = segment.starts_with('{');
            let (found, next) = match left.split_once('/') {
                Some((found, next)) if !is_parameter || expected.peek().is_some() => (found, Some(next)),
                _ => (left, None),
            };
            rest = next;
            let found = decoded(found);
            match is_parameter {
                true => parameters.push(found),
                false if found == segment => {}
                false => return None,
            }
        }
        rest.is_none().then_some(parameters)
    }

    /// A GET that changes something is no HEAD.
    fn answers(&self, method: &Method) -> bool {
        self.method == method || (*method == Method::HEAD && self.method == Method::GET && !self.changes_by_get())
    }

    fn changes_by_get(&self) -> bool {
        self.path == "/message/{topic}"
    }
}

/// The route that a request wants.
fn find(method: &Method, path: &str) -> Result<(&'static Route, Vec<Bytes>), Refusal> {
    let mut allowed = Vec::new();
    for route in ROUTES {
        let Some(parameters) = route.parameters(path) else { continue };
        if route.answers(method) {
            return Ok((route, parameters));
        }
        allowed.push(route.method.as_str());
        allowed.extend(route.answers(&Method::HEAD).then_some("HEAD"));
    }
    match allowed.is_empty() {
        true => Err(Refusal::unknown_path(path)),
        false => Err(Refusal::method_not_allowed(method, allowed.join(", "))),
    }
}

/// The description of all of it.
const OPENAPI: &str = include_str!("openapi.json");

async fn openapi(gateway: Arc<Gateway>, _call: Call) -> Answered {
    Ok(answer::body(&gateway, StatusCode::OK, "application/json", OPENAPI.into()))
}

/// Answers a request.
pub async fn dispatch(gateway: Arc<Gateway>, client: Client, request: Request<Body>) -> Response {
    gateway.traffic.requests.add(1);
    let (parts, body) = request.into_parts();
    let found = find(&parts.method, parts.uri.path());
    let compared = found.as_ref().is_ok_and(|(route, _)| route.compared);
    let read = Call::read(&gateway, client, parts, body);
    // The body is read in any case: a client that is still sending would not see the answer.
    let read = tokio::time::timeout(BODY_TIMEOUT, read).await.unwrap_or_else(|_| Err(Refusal::too_slow()));
    let answered = match (found, read) {
        (Err(refusal), Ok(_)) | (_, Err(refusal)) => Err(refusal),
        (Ok((route, parameters)), Ok(mut call)) => {
            call.parameters = parameters;
            (route.run)(Arc::clone(&gateway), call).await
        }
    };
    let mut response = answered.unwrap_or_else(|refusal| refusal.into_response(&gateway, compared));
    // What is true now need not be true later, and a pop must never be answered by anybody else.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn found(method: Method, path: &str) -> Result<(&'static str, Vec<String>), String> {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        find(&method, path)
            .map(|(route, parameters)| (route.path, parameters.iter().map(text).collect()))
            .map_err(|refusal| refusal.message)
    }

    #[test]
    fn a_name_at_the_end_may_have_slashes() {
        for (path, topic) in [
            ("/message/a", "a"),
            ("/message/a/b", "a/b"),
            ("/message/a%2Fb", "a/b"),
            ("/message/a/receive", "a/receive"),
            ("/message//a//", "/a//"),
            ("/message/", ""),
            ("/message/%C3%A9%20%25", "\u{e9} %"),
            ("/message/100%", "100%"),
        ] {
            assert_eq!(found(Method::GET, path), Ok(("/message/{topic}", vec![topic.into()])), "{path}");
        }
        assert_eq!(found(Method::GET, "/%73tatus"), Ok(("/status", vec![])));
    }

    #[test]
    fn what_follows_a_name_needs_its_slashes_escaped() {
        let (receive, purge) = ("/message/{topic}/receive", "/topic/{topic}/purge");
        assert_eq!(found(Method::POST, "/message/a/receive"), Ok((receive, vec!["a".into()])));
        assert_eq!(found(Method::POST, "/message/a%2Fb/receive"), Ok((receive, vec!["a/b".into()])));
        assert_eq!(found(Method::POST, "/message//receive"), Ok((receive, vec!["".into()])));
        assert_eq!(found(Method::POST, "/topic/a/purge"), Ok((purge, vec!["a".into()])));
        assert_eq!(found(Method::DELETE, "/topic/a/purge"), Ok(("/topic/{topic}", vec!["a/purge".into()])));
        assert!(found(Method::POST, "/message/a/b/receive").unwrap_err().contains("but GET"));
    }

    #[test]
    fn the_document_describes_every_route_and_nothing_else() {
        let document: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
        let mut described = BTreeSet::new();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                described.insert((method.to_uppercase(), path.clone()));
                let parameters = operation["parameters"].as_array().map_or(&[][..], |all| all);
                let in_path: Vec<_> = parameters.iter().filter(|it| it["in"] == "path").map(|it| &it["name"]).collect();
                let names: Vec<_> =
                    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
                assert_eq!(in_path, names, "{method} {path}");
            }
        }
        let served: BTreeSet<_> =
            ROUTES.iter().map(|route| (route.method.to_string(), route.path.to_owned())).collect();
        assert_eq!(described, served);
        assert_eq!(served.len(), ROUTES.len(), "no route is there twice");
        let mut references = vec![&document];
        while let Some(value) = references.pop() {
            if let Some(target) = value["$ref"].as_str() {
                assert!(document.pointer(&target[1..]).is_some(), "{target}");
            }
            references.extend(value.as_object().into_iter().flat_map(|object| object.values()));
            references.extend(value.as_array().into_iter().flatten());
        }
    }

    #[test]
    fn unknown_paths_and_methods_are_told_apart() {
        for path in ["/", "", "*", "/x", "/status/", "/status/x", "/topicx", "//status"] {
            assert!(found(Method::GET, path).unwrap_err().contains("nothing at"), "{path}");
        }
        let refusal = find(&Method::HEAD, "/message/a").err().unwrap();
        assert_eq!((refusal.status.as_u16(), refusal.message), (405, "HEAD is not possible here, but GET".into()));
        assert!(found(Method::POST, "/topic").unwrap_err().ends_with("PUT, GET, HEAD"));
        assert_eq!(found(Method::HEAD, "/topic"), Ok(("/topic", vec![])));
        assert!(found(Method::OPTIONS, "/status").is_err());
    }
}
