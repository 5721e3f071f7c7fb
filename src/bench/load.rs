//! The loop that carries all connections, in one thread.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use super::connection::Connection;
use super::course::{Course, Phase};
use super::options::Options;
use super::summary::Summary;

/// What does not come from a socket is looked after so often.
const TICK: Duration = Duration::from_millis(5);
/// Progress is told so often.
const TELL: Duration = Duration::from_millis(100);

/// How far a run is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// What is done, in a word or two.
    pub phase: &'static str,
    /// For how long has been measured.
    pub measured: Duration,
    /// Answers a second, of late.
    pub rate: f64,
    /// Counted requests that failed.
    pub failed: u64,
}

/// Runs a load. `tell` hears now and then how far it is, and ends it early with `false`.
///
/// # Errors
/// When the system has no more of what polling takes. What goes wrong with connections is counted.
pub fn run(options: &Options, tell: &mut dyn FnMut(Progress) -> bool) -> io::Result<Summary> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1_024);
    let began = Instant::now();
    let mut course = Course::new(options);
    let mut connections = connections(options, began);
    let (mut tick, mut told, mut answers_told) = (began, began, 0);
    while course.phase() != Phase::Ending || connections.iter().any(Connection::is_waiting) {
        match poll.poll(&mut events, Some(tick.saturating_duration_since(Instant::now()))) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &events {
            if let Some(connection) = connections.get_mut(event.token().0) {
                connection.ready(&mut course);
            }
        }
        let now = Instant::now();
        course.advance(now);
        if now >= tick {
            tick = now + TICK;
            for connection in &mut connections {
                connection.tend(now, options.timeout, &options.addresses, &mut course, poll.registry());
            }
        }
        if now >= told + TELL {
            let rate = (course.answers - answers_told) as f64 / (now - told).as_secs_f64();
            (told, answers_told) = (now, course.answers);
            if !tell(progress(&course, rate, now)) {
                course.stop(now);
            }
        }
    }
    let mut summary = course.summary;
    summary.finish();
    Ok(summary)
}

/// The connections, each with its share of the clients.
fn connections(options: &Options, now: Instant) -> Vec<Connection> {
    let count = options.connections.min(options.clients).max(1);
    let share = |number| (options.clients + count - 1 - number) / count;
    (0..count).map(|number| Connection::new(Token(number), share(number), now)).collect()
}

fn progress(course: &Course, rate: f64, now: Instant) -> Progress {
    let phase = match course.phase() {
        Phase::Filling => "filling the keys",
        Phase::WarmingUp(_) => "warming up",
        Phase::Measuring(_) => "measuring",
        Phase::Ending => "waiting for the last answers",
    };
    Progress { phase, measured: course.measured(now), rate, failed: course.summary.failed_count() }
}
