//! Whether a history could have been produced by one copy of the machine, one operation at a time.
//!
//! A [`history`] is what clients saw: each operation, when it began and ended, and what came of it. A [`Model`] says what
//! one copy of the machine may answer; [`key_value`] is the one for the key-value store. [`search`](mod@search) looks for an
//! order that explains a history of which nothing else is known, from real processes. (A simulation knows the order of its
//! log, and checks every answer against that as it is given, without a search: `runtime::simulated::oracle`.)
//!
//! Nothing here reads a clock, and the same history gets the same verdict every time. [`formats`] are those of other
//! people's checkers, so that nobody has to believe this one.

mod explain;
pub mod formats;
pub mod history;
pub mod key_value;
mod model;
pub mod search;

pub use explain::Explanation;
pub use history::{Operation, Outcome};
pub use model::Model;
pub use search::{Failure, check, check_partition};
