//! Keeps what outsiders can cause at will from flooding the log.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines per second that get through.
const LINES: u32 = 5;
const SECOND: Duration = Duration::from_secs(1);
/// An unchanged line is repeated this often.
const REMIND: Duration = Duration::from_secs(60);
/// Lines that are remembered.
const REMEMBERED: usize = 32;

/// Lets a few lines per second through and counts the rest.
#[derive(Debug, Default)]
pub struct LogLimit {
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    began: Option<Instant>,
    lines: u32,
    suppressed: u64,
}

/// How many lines were suppressed since the last one: prints as nothing if none was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suppressed(u64);

impl LogLimit {
    /// `Some` if a line may be written now.
    pub fn admit(&self) -> Option<Suppressed> {
        self.admit_at(Instant::now())
    }

    fn admit_at(&self, now: Instant) -> Option<Suppressed> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.began.is_none_or(|began| now.duration_since(began) >= SECOND) {
            (window.began, window.lines) = (Some(now), 0);
        }
        if window.lines == LINES {
            window.suppressed += 1;
            return None;
        }
        window.lines += 1;
        Some(Suppressed(std::mem::take(&mut window.suppressed)))
    }
}

impl fmt::Display for Suppressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            lines => write!(f, " ({lines} lines like this were left out)"),
        }
    }
}

/// Lets a line through when it is new, and then once a minute.
#[derive(Debug, Default)]
pub struct LogRepeats {
    said: Mutex<HashMap<String, Instant>>,
}

impl LogRepeats {
    /// Whether the line should be written now. When there are too many different ones, all of them should.
    pub fn is_news(&self, line: &str) -> bool {
        self.is_news_at(line, Instant::now())
    }

    fn is_news_at(&self, line: &str, now: Instant) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.retain(|_, at| now.duration_since(*at) < REMIND);
        if said.contains_key(line) {
            return false;
        }
        if said.len() < REMEMBERED {
            said.insert(line.to_string(), now);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_lines_per_second_get_through_and_the_rest_is_counted() {
        let (limit, start) = (LogLimit::default(), Instant::now());
        for _ in 0..LINES {
            assert_eq!(limit.admit_at(start), Some(Suppressed(0)));
        }
        assert_eq!(limit.admit_at(start), None);
        assert_eq!(limit.admit_at(start + SECOND / 2), None);
        let next = limit.admit_at(start + SECOND).expect("a new second");
        assert_eq!(next.to_string(), " (2 lines like this were left out)");
        assert_eq!(limit.admit_at(start + SECOND), Some(Suppressed(0)));
        assert_eq!(Suppressed(0).to_string(), "");
    }

    #[test]
    fn a_line_is_repeated_once_a_minute() {
        let (repeats, start) = (LogRepeats::default(), Instant::now());
        assert!(repeats.is_news_at("refused", start));
        assert!(!repeats.is_news_at("refused", start + REMIND / 2));
        assert!(repeats.is_news_at("another", start + REMIND / 2));
        assert!(repeats.is_news_at("refused", start + REMIND));
        assert!(!repeats.is_news_at("another", start + REMIND));
        for number in 0..2 * REMEMBERED {
            assert!(repeats.is_news_at(&number.to_string(), start));
        }
        assert!(repeats.said.lock().unwrap().len() <= REMEMBERED);
    }
}
