//! What `raft simulate --marks` shows: how often rare paths were taken.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use raft::marks::{Count, Counts};

/// Prints every mark, those never hit first, then the rarest. Returns whether all were hit.
pub(super) fn report(counts: &Counts) -> bool {
    let marks = counts.rarest_first();
    let mut text = format!("{:>12} {:>10}  mark\n", "hits", "seeds");
    for (mark, Count { hits, runs }) in &marks {
        let _ = writeln!(text, "{hits:>12} {runs:>10}  {}", mark.name());
    }
    let never = marks.iter().filter(|(_, count)| count.hits == 0).count();
    let _ = writeln!(text, "{} of {} marks were hit", marks.len() - never, marks.len());
    // Whoever reads it may stop before the end: the exit code says what there is to say.
    let _ = io::stdout().write_all(text.as_bytes());
    never == 0
}
