//! What nodes log, as part of the trace: every line that is logged on a thread while a simulation there keeps a trace.

use std::cell::RefCell;
use std::marker::PhantomData;

use log::{LevelFilter, Log, Metadata, Record};

thread_local! {
    /// What was logged and not taken; `None` while nobody listens.
    static HEARD: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

struct Listener;

impl Log for Listener {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        HEARD.with_borrow(Option::is_some)
    }

    fn log(&self, record: &Record<'_>) {
        // In words first: they may log, too.
        if self.enabled(record.metadata()) {
            let words = format!("{:<5} {}", record.level(), record.args());
            HEARD.with_borrow_mut(|heard| heard.iter_mut().for_each(|heard| heard.push(words.clone())));
        }
    }

    fn flush(&self) {}
}

/// From now on traces have what nodes log. For a program that logs nothing else: there can be one logger only, and another one
/// that is there already stays.
pub fn listen() {
    if log::set_logger(&Listener).is_ok() {
        log::set_max_level(LevelFilter::Debug);
    }
}

/// Hears what is logged on this thread, until it is dropped.
pub struct Listening(PhantomData<*const ()>);

impl Listening {
    /// Begins.
    pub fn begin() -> Self {
        HEARD.set(Some(Vec::new()));
        Listening(PhantomData)
    }

    /// Takes what was heard since the last time.
    pub fn take(&self) -> Vec<String> {
        HEARD.with_borrow_mut(|heard| heard.as_mut().map(std::mem::take).unwrap_or_default())
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        HEARD.set(None);
    }
}
