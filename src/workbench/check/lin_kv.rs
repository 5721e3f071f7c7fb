//! `lin-kv`: every key is a register, and its operations have an order that explains their answers and keeps to their times.
//!
//! The search is that of [`checker`](crate::checker), key by key; here is what a register may answer. A `read` that is
//! refused because there is no such key (20) has seen just that, and so has a `cas` (20, or 22: another value).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use super::findings::Findings;
use crate::checker::history::NEVER;
use crate::checker::{self, Explanation, Failure, Model};
use crate::workbench::history::Outcome;

/// Most points that the search of one key may come to, of about 200 bytes each.
const POINTS: usize = 500_000;
/// No such key.
const MISSING: u64 = 20;
/// The key has another value.
const DIFFERENT: u64 = 22;
/// Stands for all values that nobody saw.
const UNSEEN: u32 = 0;

type Step = checker::Operation<Action, Answer>;

/// Checks all keys.
pub fn check(findings: &mut Findings<'_>) {
    let mut values = Values::default();
    let mut keys: BTreeMap<Bytes, Vec<Step>> = BTreeMap::new();
    for (at, operation) in findings.operations() {
        let Some(action) = values.action(&operation.request) else { continue };
        let outcome = match &operation.outcome {
            Outcome::Answered(_) => answer(findings, at, action, &mut values),
            Outcome::Refused { code, .. } => refusal(*code, action),
            Outcome::Unknown(_) => checker::Outcome::Unknown,
        };
        let ended = if outcome == checker::Outcome::Unknown { NEVER } else { nanos(operation.ended) };
        let partition = Bytes::from(operation.request["key"].to_string());
        // The client does not matter to the search: its number is the operation's place, by which it is found again.
        let step = Step { client: at as u64, partition, action, outcome, began: nanos(operation.began), ended };
        keys.entry(step.partition.clone()).or_default().push(step);
    }
    findings.fact("keys", keys.len());
    for steps in keys.into_values() {
        match checker::check_partition(&Register, steps, &mut |points| points < POINTS) {
            Ok(()) => {}
            Err(Failure::Broken(explanation)) => explain(findings, &explanation),
            Err(undecided) => findings.undecided(undecided.to_string()),
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(NEVER - 1)
}

/// What the answer says; unknown if it makes no sense.
fn answer(findings: &mut Findings<'_>, at: usize, action: Action, values: &mut Values) -> checker::Outcome<Answer> {
    let Some(body) = findings.answer(at) else { return checker::Outcome::Unknown };
    match (action, body.get("value")) {
        (Action::Read, Some(value)) => checker::Outcome::Answered(Answer::Found(values.number(value))),
        (Action::Read, None) => {
            findings.malformed(at, "it has no field `value`");
            checker::Outcome::Unknown
        }
        _ => checker::Outcome::Answered(Answer::Done),
    }
}

/// What the register was like, if the error says that; otherwise nothing has happened.
fn refusal(code: u64, action: Action) -> checker::Outcome<Answer> {
    match (code, action) {
        (MISSING, Action::Read | Action::Swap { create: false, .. }) => checker::Outcome::Answered(Answer::Missing),
        (DIFFERENT, Action::Swap { .. }) => checker::Outcome::Answered(Answer::Different),
        _ => checker::Outcome::Failed,
    }
}

fn explain(findings: &mut Findings<'_>, explanation: &Explanation<Action, Answer>) {
    let Explanation { partition, operations, until, contradiction } = explanation;
    let places: Vec<usize> = contradiction.iter().map(|step| step.client as usize).collect();
    let (key, until) = (String::from_utf8_lossy(partition), *until as f64 / 1e9);
    findings.anomaly("not linearizable", &places, || {
        format!(
            "Key {key} did not behave like one register. All that was answered before {until:.6} s can be explained; but \
             no order of these {} of its {operations} operations explains their answers, whichever of the others took \
             effect:",
            places.len(),
        )
    });
}

/// Values as numbers, equal if they are equal as JSON.
#[derive(Default)]
struct Values(HashMap<Value, u32>);

impl Values {
    fn number(&mut self, value: &Value) -> u32 {
        if let Some(number) = self.0.get(value) {
            return *number;
        }
        let number = UNSEEN + 1 + self.0.len() as u32;
        self.0.insert(value.clone(), number);
        number
    }

    fn action(&mut self, request: &Value) -> Option<Action> {
        match request["type"].as_str()? {
            "read" => Some(Action::Read),
            "write" => Some(Action::Write(self.number(&request["value"]))),
            "cas" => {
                let create = request["create_if_not_exists"] == true;
                Some(Action::Swap { from: self.number(&request["from"]), to: self.number(&request["to"]), create })
            }
            _ => None,
        }
    }
}

/// One key.
struct Register;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    Read,
    Write(u32),
    /// A `cas`.
    Swap {
        from: u32,
        to: u32,
        /// To have the value if there is none, too.
        create: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Answer {
    Found(u32),
    Missing,
    Done,
    Different,
}

impl Model for Register {
    type Action = Action;
    type Answer = Answer;
    type State = Option<u32>;

    fn initial(&self) -> Option<u32> {
        None
    }

    fn is_read(&self, action: &Action) -> bool {
        *action == Action::Read
    }

    fn step(&self, state: &Option<u32>, action: &Action, told: Option<&Answer>, _: Option<u64>) -> Option<Option<u32>> {
        let (answer, after) = match (*action, *state) {
            (Action::Read, Some(value)) => (Answer::Found(value), *state),
            (Action::Read | Action::Swap { create: false, .. }, None) => (Answer::Missing, None),
            (Action::Write(to) | Action::Swap { to, create: true, .. }, None) => (Answer::Done, Some(to)),
            (Action::Write(to), _) => (Answer::Done, Some(to)),
            (Action::Swap { from, to, .. }, Some(value)) if from == value => (Answer::Done, Some(to)),
            (Action::Swap { .. }, Some(_)) => (Answer::Different, *state),
        };
        told.is_none_or(|told| *told == answer).then_some(after)
    }

    fn makers(&self, steps: &[Step]) -> Vec<Option<usize>> {
        let mut makers: HashMap<u32, usize> = HashMap::new();
        for step in steps {
            if let Action::Write(to) | Action::Swap { to, .. } = step.action
                && !matches!(step.answer(), Some(Answer::Missing | Answer::Different))
            {
                *makers.entry(to).or_default() += 1;
            }
        }
        let seen = |step: &Step| match (step.action, *step.answer()?) {
            (_, Answer::Found(value)) | (Action::Swap { from: value, create: false, .. }, Answer::Done) => {
                Some(makers.get(&value).copied().unwrap_or(0))
            }
            _ => None,
        };
        steps.iter().map(seen).collect()
    }

    fn simplify(&self, steps: &mut [Step]) {
        let mut seen = HashSet::new();
        for step in steps.iter() {
            if let Action::Swap { from, .. } = step.action {
                seen.insert(from);
            }
            if let Some(Answer::Found(value)) = step.answer() {
                seen.insert(*value);
            }
        }
        for step in steps {
            if let Action::Write(to) | Action::Swap { to, .. } = &mut step.action
                && !seen.contains(to)
            {
                *to = UNSEEN;
            }
        }
    }
}

impl Display for Action {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl Display for Answer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
