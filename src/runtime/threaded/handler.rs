//! The event handler's thread: waits at the inboxes, at the sockets of peers, and for what the driver wants to do by itself.

use std::io;
use std::task::Waker;
use std::time::Duration;

use super::OwnSockets;
use super::clock::Clock;
use crate::runtime::Input;
use crate::runtime::driver::Ended;
use crate::runtime::handler::EventHandler;

/// Runs until the node ends; answers everyone who still waits, and says why it ended. The clocks deliver their ticks to the
/// inbox. It serves these sockets, if there are any.
pub fn run(
    mut handler: EventHandler,
    mut sockets: Option<Box<OwnSockets>>,
    election_clock: &Clock,
    heartbeat_clock: &Clock,
) -> Ended {
    let waker = sockets.as_ref().map(|sockets| sockets.waker());
    while handler.driver.ended().is_none() {
        election_clock.set(handler.driver.election_deadline());
        heartbeat_clock.set(handler.driver.heartbeat_deadline());
        let tick = match (&mut sockets, &waker) {
            (Some(sockets), Some(waker)) => serve(&handler, sockets, waker)
                .err()
                .map(|error| Input::Failed { reason: format!("cannot wait for the sockets of peers: {error}") }),
            _ => {
                if !handler.has_input() {
                    handler.inboxes.bell.wait(handler.patience());
                }
                None
            }
        };
        handler.turn(tick);
    }
    handler.shut_down()
}

/// Waits until there is something in an inbox, or the driver wants a turn; takes in what peers have sent.
fn serve(handler: &EventHandler, sockets: &mut OwnSockets, waker: &Waker) -> io::Result<()> {
    let bell = &handler.inboxes.bell;
    let has_input = handler.has_input() || bell.listen(waker);
    let waited = sockets.worker.wait(if has_input { Some(Duration::ZERO) } else { handler.patience() });
    bell.awake();
    sockets.worker.serve();
    bell.heard_so_far();
    waited
}
