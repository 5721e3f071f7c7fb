//! The trait of models fits more than registers: a first-in, first-out queue for each topic.

use std::collections::VecDeque;
use std::fmt::{self, Display, Formatter};

use raft::checker::{Failure, Model, Operation, Outcome, check};

struct Queue;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Action {
    Put(u32),
    Take,
}

/// What was taken.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Answer(Option<u32>);

impl Display for Action {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Action::Put(message) => write!(f, "put {message}"),
            Action::Take => f.write_str("take"),
        }
    }
}

impl Display for Answer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl Model for Queue {
    type Action = Action;
    type Answer = Answer;
    type State = VecDeque<u32>;

    fn initial(&self) -> VecDeque<u32> {
        VecDeque::new()
    }

    fn is_read(&self, _: &Action) -> bool {
        false
    }

    fn step(
        &self,
        state: &VecDeque<u32>,
        action: &Action,
        answer: Option<&Answer>,
        _: Option<u64>,
    ) -> Option<VecDeque<u32>> {
        let mut after = state.clone();
        let taken = match action {
            Action::Put(message) => {
                after.push_back(*message);
                None
            }
            Action::Take => after.pop_front(),
        };
        answer.is_none_or(|answer| answer.0 == taken).then_some(after)
    }
}

/// Topic, action, what was taken if there was an answer, begin, end.
type Row = (&'static str, Action, Option<Option<u32>>, u64, u64);

fn verdict(operations: &[Row]) -> Result<(), Failure<Action, Answer>> {
    let operation = |(topic, action, answer, began, ended): &Row| {
        let outcome = answer.map_or(Outcome::Unknown, |answer| Outcome::Answered(Answer(answer)));
        Operation {
            client: *began,
            partition: (*topic).into(),
            action: action.clone(),
            outcome,
            began: *began,
            ended: *ended,
        }
    };
    let history: Vec<_> = operations.iter().map(operation).collect();
    check(&Queue, &history, &mut |points| points < 100_000)
}

#[test]
fn a_queue_is_checked_by_topic() {
    use Action::{Put, Take};
    let put = |topic, message, began, ended| (topic, Put(message), Some(None), began, ended);
    let took = |topic, message, began, ended| (topic, Take, Some(message), began, ended);
    // At the same time: in any order. One after the other: in that order.
    assert_eq!(verdict(&[put("a", 1, 0, 9), put("a", 2, 5, 9), took("a", Some(2), 20, 29), put("b", 3, 0, 9)]), Ok(()));
    let failure = verdict(&[put("a", 1, 0, 4), put("a", 2, 5, 9), put("a", 3, 10, 19), took("a", Some(2), 20, 29)]);
    let shown = failure.expect_err("first in, first out").to_string();
    assert!(shown.contains("put 1 ->") && shown.contains("take -> Some(2)") && !shown.contains("put 3 ->"), "{shown}");
    // Nothing is delivered twice, and what was put is not lost.
    assert!(verdict(&[put("a", 1, 0, 4), took("a", Some(1), 5, 9), took("a", Some(1), 10, 19)]).is_err());
    assert!(verdict(&[put("a", 1, 0, 4), took("a", None, 5, 9)]).is_err());
    // Who took what nobody was given may be one of unknown outcome.
    assert_eq!(verdict(&[put("a", 1, 0, 4), ("a", Take, None, 2, 3), took("a", None, 5, 9)]), Ok(()));
    assert_eq!(verdict(&[("a", Put(1), None, 0, 1), took("a", None, 5, 9), took("a", Some(1), 10, 19)]), Ok(()));
}
