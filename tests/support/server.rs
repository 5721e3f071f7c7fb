//! Who serves sockets, on the runtime that the test is for.

use std::sync::Arc;

use raft::config::RuntimeKind;
use raft::runtime::asynchronous::AsyncRuntime;
use raft::runtime::sockets::Sockets;
use raft::runtime::threaded::{Controller, ControllerOptions};
use raft::runtime::{Inboxes, Input, NodeHandle};

use crate::runtimes::runtime;

/// Serves sockets until it is dropped.
pub enum Server {
    Threaded(Controller),
    Async(AsyncRuntime),
}

impl Server {
    /// A server, its name in those of its threads, and the way into a node that is told when it fails.
    pub fn start(name: &str, workers: usize) -> (Server, NodeHandle, Inboxes) {
        match runtime() {
            RuntimeKind::ThreadedRuntime => {
                let (handle, inboxes) = NodeHandle::new();
                let (options, node) = (ControllerOptions { name: name.into(), workers }, handle.clone());
                let failed = move |reason| node.deliver(Input::Failed { reason });
                (Server::Threaded(Controller::start(options, failed).unwrap()), handle, inboxes)
            }
            RuntimeKind::AsyncRuntime => {
                let (runtime, handle, inboxes) = AsyncRuntime::start(name).unwrap();
                (Server::Async(runtime), handle, inboxes)
            }
        }
    }

    pub fn sockets(&self) -> Arc<dyn Sockets> {
        match self {
            Server::Threaded(controller) => controller.sockets(),
            Server::Async(runtime) => runtime.sockets(),
        }
    }
}
