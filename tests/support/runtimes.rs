//! Tests that run under both runtimes: `under_both!` makes two of each.

use std::cell::Cell;

use raft::config::RuntimeKind;

thread_local! {
    static RUNTIME: Cell<RuntimeKind> = const { Cell::new(RuntimeKind::ThreadedRuntime) };
}

/// From now on this thread starts everything on this runtime.
pub fn use_runtime(runtime: RuntimeKind) {
    RUNTIME.set(runtime);
}

/// What this thread starts everything on.
pub fn runtime() -> RuntimeKind {
    RUNTIME.get()
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
                $crate::runtimes::use_runtime(raft::config::RuntimeKind::AsyncRuntime);
                super::$name();
            })*
        }
    };
}
