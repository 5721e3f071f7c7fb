//! The REST service: HTTP/1.1 and JSON, on the async runtime of its node, or else on a small one of its own.
//!
//! A request's way: `server` accepts its connection, `request` reads it, `routes` finds who runs it, that one asks the node
//! (`node`) and `answer` puts the outcome into JSON. `docs/REST.md` lists the endpoints.
//!
//! Paths are matched by the table in `routes` rather than by a router that matches prefixes: a topic's name may contain plain
//! slashes where nothing follows it, so that `GET /message/a/receive` and `POST /message/a/receive` mean different topics.

mod answer;
mod change;
mod kv;
mod lease;
mod metrics;
mod node;
mod queue;
mod request;
mod routes;
mod server;
mod socket;
mod status;
#[cfg(test)]
mod tests;
mod text;
mod traffic;
mod waiting;

use std::sync::Arc;

use tokio::sync::{Mutex, watch};

pub use self::server::HttpServer;
use self::server::Phase;
use self::traffic::{Held, Traffic};
use self::waiting::Waiters;
use crate::consensus::NodeId;
use crate::runtime::NodeHandle;
use crate::runtime::sockets::Seats;

/// What the service has to know of its node.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// Most bytes of a request's body.
    pub max_request_bytes: u64,
    /// How many connections there may be, those of other doors included.
    pub seats: Seats,
    /// Ids and labels of the cluster's nodes.
    pub nodes: Vec<(NodeId, String)>,
}

/// What all requests share.
struct Gateway {
    options: HttpOptions,
    node: NodeHandle,
    phases: watch::Receiver<Phase>,
    waiters: Waiters,
    traffic: Arc<Traffic>,
    /// Bytes of requests that are being read or served.
    input_bytes: Held,
    /// Bytes of answers that their clients have not taken yet.
    output_bytes: Held,
    /// Whoever looks at all of the state: one at a time.
    view: Mutex<()>,
}

impl Gateway {
    fn new(options: HttpOptions, node: NodeHandle, phases: watch::Receiver<Phase>) -> Arc<Gateway> {
        let waiters = Waiters::default();
        node.tell_of_woken(Box::new(waiters.clone()));
        Arc::new(Gateway {
            options,
            node,
            phases,
            waiters,
            traffic: Arc::default(),
            input_bytes: Held::default(),
            output_bytes: Held::default(),
            view: Mutex::new(()),
        })
    }

    fn label(&self, id: NodeId) -> &str {
        self.options.nodes.iter().find(|(node, _)| *node == id).map_or("", |(_, label)| label)
    }
}
