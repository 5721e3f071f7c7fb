//! Starts threads that must not end unnoticed.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, JoinHandle};

/// Starts a thread with this name. Should it panic, `panicked` is told so, in words, on the same thread: a node that has
/// lost one of its threads must not go on as if nothing had happened.
///
/// # Errors
/// The system cannot start another thread.
pub fn spawn_guarded(
    name: impl Into<String>,
    run: impl FnOnce() + Send + 'static,
    panicked: impl FnOnce(String) + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let name = name.into();
    let failure = format!("the {name} thread panicked");
    thread::Builder::new().name(name).spawn(move || {
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            panicked(failure);
        }
    })
}
