//! The workloads `broadcast` and `g-set`: sets that only grow.
//!
//! A set is a list of its elements, in the order in which they came, and a key for each of them, so that none comes
//! twice. A large set is read in pages. Since the list only grows at its end, the pages together are the set at the
//! moment of the last one, and so within the time of the request.

use bytes::Bytes;

use super::message::{Body, ErrorCode};
use super::request::{Next, Question, key, text};
use crate::machine::command::{Answer, Change, Command, Condition, Guard, MAX_ITEMS, Query, Step};
use crate::transport::stdio::input::LINE_BYTES_MAX;

/// Most bytes of an answer's elements, so that the line is not too long.
const ELEMENTS_BYTES_MAX: usize = LINE_BYTES_MAX / 2;

/// A set.
#[derive(Clone, Copy, Debug)]
pub struct Set {
    /// Its name.
    name: &'static str,
    /// The type of request that adds to it.
    add: &'static str,
    /// The field of the answer to a `read`.
    field: &'static str,
}

/// All that was broadcast.
pub const MESSAGES: Set = Set { name: "messages", add: "broadcast", field: "messages" };
/// The elements of the set of `g-set`.
pub const ELEMENTS: Set = Set { name: "elements", add: "add", field: "value" };

impl Set {
    /// Adds an element, in canonical JSON.
    pub fn add(self, element: String) -> Question {
        let member = key(&[self.name, &element]);
        let guards = vec![Guard { key: member.clone(), revision: None }];
        let mark = Change::Set { key: member, value: Bytes::new(), condition: Condition::Always, want_old: false };
        let append = Change::Append { key: key(&[self.name]), value: element.into() };
        let steps = vec![Step::Change(mark), Step::Change(append)];
        Question::write(Command::Transaction { guards, steps }, move |answer| match answer {
            Answer::GuardFailed { .. } => Ok(Next::Tell(Body::ok(self.add))),
            Answer::Transaction(answers) => match answers.last().map(|appended| Answer::decode(appended)) {
                Some(Ok(Answer::Count(_))) => Ok(Next::Tell(Body::ok(self.add))),
                _ => Err(Answer::Transaction(answers)),
            },
            other => Err(other),
        })
    }

    /// Reads all elements.
    pub fn read(self) -> Question {
        self.page(key(&[self.name]), String::new())
    }

    /// Reads what comes after this key. The elements before it are in `found`.
    fn page(self, after: Bytes, mut found: String) -> Question {
        let query = Query::List { prefix: key(&[self.name]), after: Some(after), limit: MAX_ITEMS };
        Question::read(&query, move |answer| {
            let Answer::Items { items, more } = answer else { return Err(answer) };
            for (_, element) in &items {
                found += if found.is_empty() { "" } else { "," };
                found += &text(&element.bytes);
            }
            match items.into_iter().next_back() {
                _ if found.len() > ELEMENTS_BYTES_MAX => {
                    let why = format!("the elements have more than {ELEMENTS_BYTES_MAX} bytes");
                    Ok(Next::Tell(Body::error(ErrorCode::NotSupported, why)))
                }
                Some((last, _)) if more => Ok(Next::Ask(self.page(last, found))),
                _ => Ok(Next::Tell(Body::json("read", self.field, format!("[{found}]")))),
            }
        })
    }
}
