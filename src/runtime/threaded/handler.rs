//! The event handler's thread: waits at the inboxes, and for what the driver wants to do by itself.

use super::clock::Clock;
use crate::runtime::driver::Ended;
use crate::runtime::handler::EventHandler;

/// Runs until the node ends; answers everyone who still waits, and says why it ended. The clocks deliver their ticks to the
/// inbox.
pub fn run(mut handler: EventHandler, election_clock: &Clock, heartbeat_clock: &Clock) -> Ended {
    while handler.driver.ended().is_none() {
        election_clock.set(handler.driver.election_deadline());
        heartbeat_clock.set(handler.driver.heartbeat_deadline());
        if !handler.has_input() {
            handler.inboxes.bell.wait(handler.driver.next_turn().map(|at| at.saturating_sub(handler.now())));
        }
        handler.turn(None);
    }
    handler.shut_down()
}
