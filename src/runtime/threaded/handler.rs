//! The event handler's thread: waits at the inboxes, and for what the driver wants to do by itself.

use std::time::Duration;

use crossbeam_channel::Select;

use super::clock::Clock;
use crate::runtime::Inboxes;
use crate::runtime::driver::Ended;
use crate::runtime::handler::EventHandler;

/// Runs until the node ends; answers everyone who still waits, and says why it ended. The clocks deliver their ticks to the
/// inbox.
pub fn run(mut handler: EventHandler, election_clock: &Clock, heartbeat_clock: &Clock) -> Ended {
    while handler.driver.ended().is_none() {
        election_clock.set(handler.driver.election_deadline());
        heartbeat_clock.set(handler.driver.heartbeat_deadline());
        wait(&handler);
        handler.turn(None);
    }
    handler.shut_down()
}

/// Waits until there is something in an inbox, or the driver wants a turn.
fn wait(handler: &EventHandler) {
    if handler.has_input() {
        return;
    }
    let Inboxes { internal, clients, .. } = &handler.inboxes;
    let mut select = Select::new();
    select.recv(internal);
    select.recv(clients);
    select.recv(handler.inboxes.questions());
    match handler.driver.next_turn() {
        None => {
            select.ready();
        }
        Some(at) => {
            let wait: Duration = at.saturating_sub(handler.now());
            let _ = select.ready_timeout(wait);
        }
    }
}
