//! The workloads `g-counter` and `pn-counter`: one sum.

use super::message::Body;
use super::request::{Next, Question, key, text};
use crate::machine::command::{Answer, Change, Query};

const COUNTER: &str = "counter";

/// `add {delta}`.
pub fn add(delta: i64) -> Question {
    Question::write(Change::Add { key: key(&[COUNTER]), delta }, |answer| match answer {
        Answer::Value(Some(_)) => Ok(Next::Tell(Body::ok("add"))),
        other => Err(other),
    })
}

/// `read {}`.
pub fn read() -> Question {
    Question::read(&Query::Get { key: key(&[COUNTER]) }, |answer| match answer {
        Answer::Value(sum) => {
            let sum = sum.map_or_else(|| "0".to_owned(), |sum| text(&sum.bytes));
            Ok(Next::Tell(Body::json("read", "value", sum)))
        }
        other => Err(other),
    })
}
