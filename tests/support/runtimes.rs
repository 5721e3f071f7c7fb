//! Tests that run under both runtimes: `under_both!` makes two of each, and [`Sockets`](raft::runtime::sockets::Sockets) and
//! nodes are made for the one whose turn it is.

use std::cell::Cell;
use std::sync::Arc;

use raft::config::RuntimeKind;
use raft::runtime::asynchronous::AsyncRuntime;
use raft::runtime::sockets::Sockets;
use raft::runtime::threaded::{Controller, ControllerOptions};
use raft::runtime::{Inboxes, NodeHandle};

thread_local! {
    static RUNTIME: Cell<RuntimeKind> = const { Cell::new(RuntimeKind::ThreadedRuntime) };
}

/// From now on this thread starts everything on this runtime.
pub fn use_runtime(runtime: RuntimeKind) {
    RUNTIME.set(runtime);
}

/// Who serves sockets, until this is dropped.
pub enum Server {
    Threaded(Controller),
    Async(AsyncRuntime),
}

impl Server {
    /// A server, its name in those of its threads, and the way into a node that is told when it fails.
    pub fn start(name: &str, workers: usize) -> (Server, NodeHandle, Inboxes) {
        match RUNTIME.get() {
            RuntimeKind::ThreadedRuntime => {
                let (handle, inboxes) = NodeHandle::new();
                let (options, node) = (ControllerOptions { name: name.into(), workers }, handle.clone());
                let failed = move |reason| node.deliver(raft::runtime::Input::Failed { reason });
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

/// Makes two tests of each of these functions.
#[macro_export]
macro_rules! under_both {
    ($($name:ident),* $(,)?) => {
        mod threaded {
            $(#[test] fn $name() { super::$name(); })*
        }
        mod asynchronous {
            $(#[test] fn $name() {
                crate::runtimes::use_runtime(raft::config::RuntimeKind::AsyncRuntime);
                super::$name();
            })*
        }
    };
}
