//! The event handler as a task, with both clocks in one timer.

use std::pin::Pin;
use std::time::{Duration, Instant};

use tokio::time::{Sleep, sleep_until};

use crate::runtime::Input;
use crate::runtime::driver::Ended;
use crate::runtime::handler::EventHandler;

/// Runs until the node ends; answers everyone who still waits, and says why it ended.
pub(in crate::runtime) async fn run(mut handler: EventHandler) -> Ended {
    let mut clocks = Clocks::default();
    let mut alarm = Alarm::new(handler.start);
    while handler.driver.ended().is_none() {
        let tick = clocks.fire(&handler);
        handler.turn(tick);
        if handler.has_input() {
            // It may be told to stop.
            tokio::task::yield_now().await;
            continue;
        }
        let next_turn = [clocks.next(&handler), handler.next_turn()].into_iter().flatten().min();
        tokio::select! {
            biased;
            () = handler.inboxes.bell.heard() => {}
            () = alarm.until(next_turn) => {}
        }
    }
    // The transport waits for its threads.
    let ended = tokio::task::spawn_blocking(|| handler.shut_down());
    ended.await.unwrap_or_else(|_| Err("the event handler panicked".into()))
}

/// The election clock and the heartbeat clock: each fires once at a deadline.
#[derive(Default)]
struct Clocks {
    fired: [Option<Duration>; 2],
}

impl Clocks {
    /// A tick, if a deadline has come.
    fn fire(&mut self, handler: &EventHandler) -> Option<Input> {
        let now = handler.now();
        let mut tick = None;
        for (fired, deadline) in self.fired.iter_mut().zip(deadlines(handler)) {
            if deadline != *fired && deadline.is_some_and(|deadline| deadline <= now) {
                *fired = deadline;
                tick = Some(Input::Tick);
            }
        }
        tick
    }

    /// When the next one fires.
    fn next(&self, handler: &EventHandler) -> Option<Duration> {
        let ahead = deadlines(handler).into_iter().zip(self.fired);
        ahead.filter(|(deadline, fired)| deadline != fired).filter_map(|(deadline, _)| deadline).min()
    }
}

fn deadlines(handler: &EventHandler) -> [Option<Duration>; 2] {
    [handler.driver.election_deadline(), handler.driver.heartbeat_deadline()]
}

/// A timer for a deadline that moves all the time, and nearly always away: it is set anew only for an earlier one, and looks
/// again when it has gone off.
struct Alarm {
    start: Instant,
    /// Since `start`.
    set_for: Duration,
    sleep: Pin<Box<Sleep>>,
}

impl Alarm {
    fn new(start: Instant) -> Self {
        Alarm { start, set_for: Duration::ZERO, sleep: Box::pin(sleep_until(start.into())) }
    }

    /// Waits until then, at least; for ever, if there is no deadline.
    async fn until(&mut self, deadline: Option<Duration>) {
        let Some(deadline) = deadline else { return std::future::pending().await };
        while self.start.elapsed() < deadline {
            if self.sleep.is_elapsed() || deadline < self.set_for {
                self.set_for = deadline;
                self.sleep.as_mut().reset((self.start + deadline).into());
            }
            self.sleep.as_mut().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
    }

    #[test]
    fn an_alarm_never_goes_off_early_however_its_deadline_moves() {
        block_on(async {
            let start = Instant::now();
            let mut alarm = Alarm::new(start);
            for deadlines_ms in [&[60_000, 5][..], &[10, 40], &[60_000, 20, 60_000, 50], &[0]] {
                let (last, earlier) = deadlines_ms.split_last().unwrap();
                let now = start.elapsed();
                for deadline_ms in earlier {
                    // Given up before it goes off.
                    let until = alarm.until(Some(now + Duration::from_millis(*deadline_ms)));
                    assert!(tokio::time::timeout(Duration::ZERO, until).await.is_err());
                }
                let deadline = now + Duration::from_millis(*last);
                alarm.until(Some(deadline)).await;
                assert!(start.elapsed() >= deadline);
                assert!(start.elapsed() < deadline + Duration::from_secs(30), "well before a minute has passed");
            }
            assert!(tokio::time::timeout(Duration::from_millis(5), alarm.until(None)).await.is_err());
        });
    }
}
