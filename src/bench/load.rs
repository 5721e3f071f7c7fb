//! A load from its beginning to its end, and the loop that carries the connections of the Redis protocol, in one thread.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use super::connection::Connection;
use super::course::{Course, Phase};
use super::etcd;
use super::options::{Options, Protocol};
use super::summary::Summary;

/// What does not come from a socket is looked after so often.
pub(super) const TICK: Duration = Duration::from_millis(5);
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
    let teller = Teller::new(tell);
    let mut summary = match options.protocol {
        Protocol::Redis => redis(options, teller)?,
        Protocol::Etcd => etcd::load(options, teller)?,
    };
    summary.finish();
    Ok(summary)
}

fn redis(options: &Options, mut teller: Teller<'_>) -> io::Result<Summary> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1_024);
    let began = Instant::now();
    let mut course = Course::new(options);
    let mut connections = connections(options, began);
    let mut tick = began;
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
        teller.look(&mut course, now);
    }
    Ok(course.summary)
}

/// The connections, each with its share of the clients.
fn connections(options: &Options, now: Instant) -> Vec<Connection> {
    let shares = options.shares().enumerate();
    shares.map(|(number, clients)| Connection::new(Token(number), clients, now)).collect()
}

/// Tells now and then how far a run is.
pub(super) struct Teller<'a> {
    tell: &'a mut dyn FnMut(Progress) -> bool,
    told: Instant,
    answers: u64,
}

impl<'a> Teller<'a> {
    fn new(tell: &'a mut dyn FnMut(Progress) -> bool) -> Self {
        Teller { tell, told: Instant::now(), answers: 0 }
    }

    /// Tells if it is time, and ends the run if that was the wish.
    pub(super) fn look(&mut self, course: &mut Course, now: Instant) {
        if now < self.told + TELL {
            return;
        }
        let rate = (course.answers - self.answers) as f64 / (now - self.told).as_secs_f64();
        (self.told, self.answers) = (now, course.answers);
        if !(self.tell)(progress(course, rate, now)) {
            course.stop(now);
        }
    }
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
