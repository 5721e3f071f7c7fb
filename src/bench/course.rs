//! The course of a run: filling, warming up, measuring, waiting for the last answers; and what counts.

use std::time::{Duration, Instant};

use super::options::{Kind, Options};
use super::reply::Reply;
use super::requests::Requests;
use super::summary::Summary;

/// What is not counted, before what is.
const WARM_UP: Duration = Duration::from_secs(1);

/// A request that waits for its answer.
#[derive(Clone, Copy)]
pub struct Request {
    /// What it does.
    pub kind: Kind,
    /// When.
    pub sent: Instant,
}

/// Where a run is.
pub struct Course {
    requests: Requests,
    phase: Phase,
    /// When measuring began.
    began: Option<Instant>,
    /// What counts.
    pub summary: Summary,
    /// All answers, counted or not.
    pub answers: u64,
}

/// What is done at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Every key is set.
    Filling,
    /// Nothing counts yet.
    WarmingUp(Instant),
    /// All that is sent counts.
    Measuring(Instant),
    /// Nothing more is sent.
    Ending,
}

impl Course {
    /// A run at its beginning.
    pub fn new(options: &Options) -> Self {
        Course {
            requests: Requests::new(options),
            phase: Phase::Filling,
            began: None,
            summary: Summary::new(options.time),
            answers: 0,
        }
    }

    /// What is done at the moment.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// For how long has been measured, or was.
    pub fn measured(&self, now: Instant) -> Duration {
        self.began.map_or(Duration::ZERO, |began| now - began).min(self.summary.time)
    }

    /// Goes on to the next phase when it is time.
    pub fn advance(&mut self, now: Instant) {
        match self.phase {
            Phase::Filling if !self.requests.is_filling() => self.phase = Phase::WarmingUp(now + WARM_UP),
            Phase::WarmingUp(until) if now >= until => {
                self.began = Some(now);
                self.phase = Phase::Measuring(now + self.summary.time);
            }
            Phase::Measuring(until) if now >= until => self.phase = Phase::Ending,
            _ => {}
        }
    }

    /// Ends it early, with what was measured.
    pub fn stop(&mut self, now: Instant) {
        if self.phase != Phase::Ending {
            self.summary.time = self.measured(now);
            self.phase = Phase::Ending;
        }
    }

    /// Writes the next request, unless no more are sent.
    pub fn next(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<Request> {
        (self.phase != Phase::Ending).then(|| Request { kind: self.requests.next(out), sent: now })
    }

    /// A request was answered.
    pub fn answered(&mut self, request: Request, reply: Reply<'_>, now: Instant) {
        self.answers += 1;
        match reply {
            Reply::Error(word) => self.failed(request, word, now),
            _ => {
                if let Some(began) = self.counts(request) {
                    self.summary.answered(request.kind, reply == Reply::Nil, now - request.sent, now - began);
                }
            }
        }
    }

    /// A request failed. What cannot be filled now is left: the run is about what is there.
    pub fn failed(&mut self, request: Request, word: &str, now: Instant) {
        self.requests.stop_filling();
        if let Some(began) = self.counts(request) {
            self.summary.failed(word, now - began);
        }
    }

    /// A connection was lost, or could not be made. The run must not wait for keys that nobody can fill.
    pub fn lost_connection(&mut self) {
        self.requests.stop_filling();
        if matches!(self.phase, Phase::Measuring(_)) {
            self.summary.lost_connections += 1;
        }
    }

    /// When measuring began, if this request was sent after that.
    fn counts(&self, request: Request) -> Option<Instant> {
        self.began.filter(|began| request.sent >= *began)
    }
}
