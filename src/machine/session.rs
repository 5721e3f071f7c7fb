//! Client sessions: a command that is sent again takes effect once and gets the same answer (Raft thesis §6.3).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::due::Due;
use super::table::{Table, key, number_of};
use crate::consensus::{LogTime, SessionSequence};

/// A session that was not used for so long has ended: one hour of log time.
pub const SESSION_MS: u64 = 60 * 60 * 1000;
/// Most answers that a session keeps: so many commands of a client may be under way at a time.
pub const SESSION_ANSWERS: u64 = 256;
/// Most bytes of answers that a session keeps, unless its last answer alone has more.
pub const SESSION_BYTES: u64 = 1 << 20;
/// Most sessions. One more ends the one that was not used for longest.
pub const MAX_SESSIONS: u64 = 64 << 10;
/// Most bytes of answers in all sessions together. Beyond that the session that was not used for longest ends.
pub const MAX_SESSIONS_BYTES: u64 = 256 << 20;

/// All sessions and the answers they keep.
#[derive(Clone, Debug)]
pub struct Sessions {
    /// By id.
    sessions: Table<Session>,
    /// By session and sequence number.
    answers: Table<Bytes>,
    /// When sessions were used last, and their ids.
    by_use: Due,
    /// Of all answers.
    bytes: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Session {
    /// In log time.
    used_ms: u64,
    /// The first sequence number whose answer, if it had any, is still kept.
    floor: u64,
    answers: u64,
    bytes: u64,
}

/// What sessions know of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// It is to be run, and its answer [kept](Sessions::keep).
    New,
    /// It was run, with this answer.
    Answered(Bytes),
    /// It is so old that this is not known any more.
    TooOld,
    /// There is no such session.
    NoSession,
}

impl Sessions {
    /// No sessions, in tables of these numbers.
    pub(super) fn new(sessions: u32, answers: u32) -> Self {
        let (sessions, answers) = (Table::new(sessions), Table::new(answers));
        Sessions { sessions, answers, by_use: Due::default(), bytes: 0 }
    }

    /// These sessions and answers, if they agree with each other.
    pub(super) fn of(sessions: Table<Session>, answers: Table<Bytes>) -> Result<Self, String> {
        let mut of = Sessions { sessions, answers, ..Sessions::new(0, 0) };
        let mut count = 0;
        for (id, session) in of.sessions.from(b"") {
            let kept = || of.answers.with_prefix(id);
            let bytes: u64 = kept().map(|(_, answer)| answer.len() as u64).sum();
            let in_window = kept().all(|(place, _)| number_of(place, 1).is_some_and(|number| number >= session.floor));
            if (kept().count() as u64, bytes) != (session.answers, session.bytes) || !in_window || id.len() != 8 {
                return Err("a session has not the answers that it counts".into());
            }
            count += session.answers;
            of.bytes += bytes;
            of.by_use.insert(session.used_ms, id);
        }
        if count != of.answers.len() {
            return Err("there are answers without a session".into());
        }
        Ok(of)
    }

    /// Its tables as they are now, however they change afterwards.
    pub(super) fn tables(&self) -> (Table<Session>, Table<Bytes>) {
        (self.sessions.clone(), self.answers.clone())
    }

    /// A hash of all sessions and answers.
    pub fn digest(&self) -> u64 {
        self.sessions.digest().wrapping_add(self.answers.digest())
    }

    /// Number of sessions.
    pub fn len(&self) -> u64 {
        self.sessions.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Opens a session, whose id is the log index of the command that does so.
    pub fn open(&mut self, id: u64, time: LogTime) {
        let id = key([id]);
        self.by_use.insert(time.0, &id);
        self.sessions.insert(id, Session { used_ms: time.0, floor: 1, answers: 0, bytes: 0 });
        self.make_room();
    }

    /// Log time has come this far: sessions end.
    pub fn expire(&mut self, time: LogTime) {
        while let Some(id) = self.due(time) {
            self.end(&id);
        }
    }

    /// Whether one will then.
    pub fn has_due(&self, time: LogTime) -> bool {
        self.due(time).is_some()
    }

    fn due(&self, time: LogTime) -> Option<Bytes> {
        time.0.checked_sub(SESSION_MS).and_then(|used_ms| self.by_use.by(used_ms))
    }

    /// What is known of a command. Asking uses the session.
    pub fn look(&mut self, stamp: SessionSequence, time: LogTime) -> Known {
        let id = key([stamp.session]);
        let used =
            self.sessions.update(&id, |session| (std::mem::replace(&mut session.used_ms, time.0), session.floor));
        let Some((used_ms, floor)) = used else { return Known::NoSession };
        if used_ms != time.0 {
            self.by_use.remove(used_ms, &id);
            self.by_use.insert(time.0, &id);
        }
        match self.answers.get(&key([stamp.session, stamp.sequence])) {
            Some(answer) => Known::Answered(answer.clone()),
            None if stamp.sequence < floor => Known::TooOld,
            None => Known::New,
        }
    }

    /// Keeps the answer of a command that was [new](Known::New), and forgets the oldest ones beyond the limits.
    pub fn keep(&mut self, stamp: SessionSequence, answer: Bytes) {
        let id = key([stamp.session]);
        let bytes = answer.len() as u64;
        let counts = self.sessions.update(&id, |session| {
            session.answers += 1;
            session.bytes += bytes;
            (session.answers, session.bytes)
        });
        let Some((mut answers, mut kept)) = counts else { return };
        self.bytes += bytes;
        self.answers.insert(key([stamp.session, stamp.sequence]), answer);
        while answers > SESSION_ANSWERS || (kept > SESSION_BYTES && answers > 1) {
            let Some(oldest) = self.answers.with_prefix(&id).next().map(|(place, _)| place.clone()) else { break };
            let gone = self.answers.remove(&oldest).map_or(0, |answer| answer.len() as u64);
            let floor = number_of(&oldest, 1).unwrap_or_default().saturating_add(1);
            self.sessions.update(&id, |session| {
                (session.answers, session.bytes, session.floor) = (session.answers - 1, session.bytes - gone, floor);
            });
            (answers, kept) = (answers - 1, kept - gone);
            self.bytes -= gone;
        }
        self.make_room();
    }

    fn make_room(&mut self) {
        while self.sessions.len() > MAX_SESSIONS || (self.bytes > MAX_SESSIONS_BYTES && self.sessions.len() > 1) {
            let Some((_, id)) = self.by_use.first() else { break };
            self.end(&id);
        }
    }

    fn end(&mut self, id: &[u8]) {
        let Some(session) = self.sessions.remove(id) else { return };
        self.by_use.remove(session.used_ms, id);
        self.bytes -= session.bytes;
        let places: Vec<Bytes> = self.answers.with_prefix(id).map(|(place, _)| place.clone()).collect();
        places.iter().for_each(|place| drop(self.answers.remove(place)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(session: u64, sequence: u64) -> SessionSequence {
        SessionSequence { session, sequence }
    }

    fn sessions() -> Sessions {
        let mut sessions = Sessions::new(1, 2);
        sessions.open(7, LogTime(100));
        sessions
    }

    fn run(sessions: &mut Sessions, sequence: u64, answer: impl Into<Bytes>) {
        assert_eq!(sessions.look(stamp(7, sequence), LogTime(100)), Known::New);
        sessions.keep(stamp(7, sequence), answer.into());
    }

    #[test]
    fn what_was_run_is_answered_again_in_any_order() {
        let mut sessions = sessions();
        run(&mut sessions, 2, "two");
        run(&mut sessions, 1, "one");
        assert_eq!(sessions.look(stamp(7, 2), LogTime(100)), Known::Answered("two".into()));
        assert_eq!(sessions.look(stamp(7, 1), LogTime(100)), Known::Answered("one".into()));
        assert_eq!(sessions.look(stamp(7, 0), LogTime(100)), Known::TooOld);
        assert_eq!(sessions.look(stamp(8, 1), LogTime(100)), Known::NoSession);
    }

    #[test]
    fn only_the_last_answers_are_kept_and_earlier_commands_refused() {
        let mut sessions = sessions();
        (1..=SESSION_ANSWERS + 3).for_each(|sequence| run(&mut sessions, sequence, "x"));
        assert_eq!(sessions.look(stamp(7, 3), LogTime(100)), Known::TooOld);
        assert_eq!(sessions.look(stamp(7, 4), LogTime(100)), Known::Answered("x".into()));
        run(&mut sessions, 1_000, vec![0; SESSION_BYTES as usize]);
        assert_eq!(sessions.look(stamp(7, SESSION_ANSWERS + 3), LogTime(100)), Known::TooOld);
        assert_eq!(sessions.bytes, SESSION_BYTES);
        assert_eq!(sessions.answers.len(), 1);
    }

    #[test]
    fn an_hour_without_use_ends_a_session() {
        let mut sessions = sessions();
        run(&mut sessions, 1, "one");
        sessions.expire(LogTime(99 + SESSION_MS));
        assert_eq!(sessions.look(stamp(7, 1), LogTime(99 + SESSION_MS)), Known::Answered("one".into()));
        sessions.expire(LogTime(100 + SESSION_MS));
        assert_eq!(sessions.len(), 1, "it was used meanwhile");
        sessions.expire(LogTime(99 + 2 * SESSION_MS));
        assert_eq!(sessions.look(stamp(7, 1), LogTime(99 + 2 * SESSION_MS)), Known::NoSession);
        assert_eq!((sessions.digest(), sessions.bytes), (0, 0));
    }

    #[test]
    fn the_session_unused_for_longest_makes_room() {
        let mut sessions = Sessions::new(1, 2);
        (1..=MAX_SESSIONS).for_each(|id| sessions.open(id, LogTime(id)));
        sessions.look(stamp(1, 1), LogTime(MAX_SESSIONS + 1));
        sessions.open(MAX_SESSIONS + 2, LogTime(MAX_SESSIONS + 2));
        assert_eq!(sessions.len(), MAX_SESSIONS);
        assert_eq!(sessions.look(stamp(2, 1), LogTime(MAX_SESSIONS + 2)), Known::NoSession);
        assert_eq!(sessions.look(stamp(1, 1), LogTime(MAX_SESSIONS + 2)), Known::New);
    }
}
