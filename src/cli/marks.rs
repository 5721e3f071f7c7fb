//! What `raft simulate --marks` shows: how often rare paths were taken.

use raft::marks::{Count, Counts};

/// Prints every mark, those never hit first, then the rarest. Returns whether all were hit.
pub(super) fn report(counts: &Counts) -> bool {
    let marks = counts.rarest_first();
    println!("{:>12} {:>10}  mark", "hits", "seeds");
    for (mark, Count { hits, runs }) in &marks {
        println!("{hits:>12} {runs:>10}  {}", mark.name());
    }
    let never = marks.iter().filter(|(_, count)| count.hits == 0).count();
    println!("{} of {} marks were hit", marks.len() - never, marks.len());
    never == 0
}
