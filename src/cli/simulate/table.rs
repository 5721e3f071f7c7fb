//! What many simulations came to, for people.

use std::fmt::Write as _;
use std::time::Duration;

use raft::figures::grouped;
use raft::runtime::simulated::Report;

/// What was run.
pub struct Sum {
    /// All of it, added up.
    pub report: Report,
    /// Simulations.
    pub runs: u64,
    /// Those that failed.
    pub failed: u64,
    /// How many were run at a time.
    pub jobs: usize,
    /// Each was run twice.
    pub twice: bool,
}

impl Sum {
    /// A table of it, after so much time.
    pub fn table(&self, wall: Duration) -> String {
        let Sum { report: r, runs, failed, jobs, twice } = self;
        let times = if *twice { 2 } else { 1 };
        // What was run twice is counted once, and took the time of two.
        let per_second = |number: f64| times as f64 * number / wall.as_secs_f64().max(1e-9);
        let n = grouped;
        let simulated = r.simulated.as_secs_f64();
        let rows = [
            ("simulations", format!("{}{}, {} failed", n(*runs), if *twice { ", each twice" } else { "" }, n(*failed))),
            (
                "simulated",
                format!("{:.2} hours, {} times as fast as time", simulated / 3600.0, n(per_second(simulated) as u64)),
            ),
            ("took", format!("{:.1} s, {jobs} at a time", wall.as_secs_f64())),
            ("events", format!("{}, {} a second", n(r.events), n(per_second(r.events as f64) as u64))),
            ("faults", format!("{}, {} of them impossible then", n(r.faults), n(r.skipped))),
            ("nodes", format!("{} started, {} ended", n(r.starts), n(r.ends))),
            ("crashes", format!("{} killed, {} power cuts", n(r.crashes), n(r.power_cuts))),
            ("disks", format!("{} failed, {} nodes refused for what theirs forgot", n(r.disk_failures), n(r.refused))),
            ("elections", n(r.elections)),
            ("entries", format!("{} committed", n(r.committed))),
            ("snapshots", format!("{} taken, {} sent, {} received", n(r.snapshots), n(r.transfers), n(r.received))),
            (
                "messages",
                format!(
                    "{} sent, {} lost, {} doubled, {} MB",
                    n(r.messages),
                    n(r.lost),
                    n(r.doubled),
                    n(r.bytes >> 20)
                ),
            ),
            (
                "requests",
                format!(
                    "{} answered, {} refused, {} unknown, {} given up",
                    n(r.answered),
                    n(r.refusals),
                    n(r.unknown),
                    n(r.given_up)
                ),
            ),
            ("operations", format!("{} checked, {} repeated in sessions", n(r.operations), n(r.repeated))),
            ("hash", format!("{:016x}", r.hash)),
        ];
        rows.iter().fold(String::new(), |mut table, (name, value)| {
            let _ = writeln!(table, "{name:<12}  {value}");
            table
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_run_twice_took_the_time_of_two() {
        let report = Report { events: 1_000, simulated: Duration::from_secs(3600), ..Report::default() };
        let mut sum = Sum { report, runs: 5, failed: 1, jobs: 2, twice: false };
        let table = sum.table(Duration::from_secs(10));
        assert!(table.contains("1.00 hours, 360 times") && table.contains("1,000, 100 a second"), "{table}");
        sum.twice = true;
        assert!(sum.table(Duration::from_secs(10)).contains("1,000, 200 a second"));
    }
}
