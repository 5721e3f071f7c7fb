//! A run over time as a drawing: how long answers took, how many came, and when requests failed.

use std::time::Duration;

use super::options::Options;
use super::report;
use super::summary::{Slot, Summary};
use crate::drawing::{Drawing, Time};
use crate::figures::duration;

/// From top to bottom: room for words, latencies, a gap, rates.
const TOP: f64 = 24.0;
const LATENCY: f64 = 240.0;
const RATE_TOP: f64 = TOP + LATENCY + 24.0;
const RATE: f64 = 100.0;
const HEIGHT: f64 = RATE_TOP + RATE;

const STYLE: &str = "\
svg { background: #fff; font: 12px system-ui, sans-serif; }
text { fill: #5c636b; } .left { text-anchor: end; } .below { text-anchor: middle; }
.tick { stroke: #e3e5e8; } .failed { fill: #b3261e33; }
polyline { fill: none; stroke-width: 1.5; } .p50 { stroke: #1d4ed8; } .p99 { stroke: #c07a00; } .rate { stroke: #2b8a5b; }
text.p50, text.p99, text.rate { stroke: none; font-weight: bold; }
text.p50 { fill: #1d4ed8; } text.p99 { fill: #c07a00; } text.rate { fill: #2b8a5b; }
";

/// The run as an SVG that needs nothing else. Where nothing was answered the lines have gaps.
pub fn plot(options: &Options, summary: &Summary) -> String {
    let slots = &summary.slots;
    let end = summary.slot_time * u32::try_from(slots.len()).unwrap_or(u32::MAX).max(1);
    let time = Time { end };
    let middle = |number: usize| time.x(summary.slot_time) * (number as f64 + 0.5);
    let mut drawing = Drawing::new(HEIGHT);
    drawing.seconds(time);
    for (number, slot) in slots.iter().enumerate().filter(|(_, slot)| slot.failed > 0) {
        let width = time.x(summary.slot_time);
        let words = format!("{} failed", slot.failed);
        drawing.rectangle("failed", (width * number as f64, TOP), (width, HEIGHT - TOP), &words);
    }
    drawing.words("title", (0.0, 14.0), &report::task(options));
    drawing.words("p50", (Time::WIDTH - 190.0, 14.0), "p50");
    drawing.words("p99", (Time::WIDTH - 150.0, 14.0), "p99");
    drawing.words("rate", (Time::WIDTH - 110.0, 14.0), "answers a second");

    let axis = Axis::of(slots);
    for power in axis.from..=axis.to {
        drawing.left(axis.y(10f64.powi(power)) + 4.0, &duration(Duration::from_secs_f64(10f64.powi(power))));
    }
    for part in answered_parts(slots) {
        let place = |number: usize, time: Duration| (middle(number), axis.y(time.as_secs_f64()));
        drawing.line("p99", part.iter().map(|(number, slot)| place(*number, slot.p99)));
        drawing.line("p50", part.iter().map(|(number, slot)| place(*number, slot.p50)));
    }

    let each = summary.slot_time.as_secs_f64();
    let most = slots.iter().map(|slot| slot.answered).max().unwrap_or_default().max(1) as f64;
    drawing.left(RATE_TOP + 4.0, &format!("{:.0}/s", most / each));
    drawing.left(HEIGHT, "0");
    let height = |slot: &Slot| HEIGHT - RATE * slot.answered as f64 / most;
    drawing.line("rate", slots.iter().enumerate().map(|(number, slot)| (middle(number), height(slot))));
    drawing.file("Latency and rate over time", STYLE)
}

/// The slots with their numbers, in runs of such as have answers.
fn answered_parts(slots: &[Slot]) -> Vec<Vec<(usize, &Slot)>> {
    let numbered: Vec<_> = slots.iter().enumerate().collect();
    numbered.split(|(_, slot)| slot.answered == 0).filter(|part| !part.is_empty()).map(<[_]>::to_vec).collect()
}

/// Whole powers of ten, in seconds, between which all latencies lie.
struct Axis {
    from: i32,
    to: i32,
}

impl Axis {
    fn of(slots: &[Slot]) -> Axis {
        let answered = || slots.iter().filter(|slot| slot.answered > 0);
        let low = answered().map(|slot| slot.p50).min().unwrap_or(Duration::from_millis(1));
        let high = answered().map(|slot| slot.p99).max().unwrap_or_default();
        let power = |time: Duration| time.as_secs_f64().max(1e-6).log10();
        let from = power(low).floor() as i32;
        Axis { from, to: (power(high).ceil() as i32).max(from + 1) }
    }

    fn y(&self, seconds: f64) -> f64 {
        let share = (seconds.max(1e-9).log10() - f64::from(self.from)) / f64::from(self.to - self.from);
        TOP + LATENCY * (1.0 - share.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::super::options::{Kind, Mix, Protocol};
    use super::*;
    use crate::drawing::tests::assert_well_formed;

    fn options() -> Options {
        Options {
            addresses: vec![([127, 0, 0, 1], 1).into()],
            protocol: Protocol::Redis,
            clients: 2,
            connections: 1,
            time: Duration::from_secs(1),
            mix: Mix { put: 1, get: 1 },
            value_size: 8,
            keys: 1,
            queue: false,
            timeout: Duration::from_secs(1),
            seed: 7,
        }
    }

    #[test]
    fn an_outage_is_a_gap_and_failures_are_shaded() {
        let ms = Duration::from_millis;
        let mut summary = Summary::new(ms(1_000));
        for at in (0..1_000).step_by(10).filter(|at| !(300..600).contains(at)) {
            summary.answered(Kind::Put, false, ms(1 + at / 100), ms(at));
        }
        summary.close_slots(ms(1_000));
        summary.slots[3].failed = 5;
        let svg = plot(&options(), &summary);
        assert_well_formed(&svg);
        assert!(svg.starts_with("<svg xmlns=") && !svg.contains("url(") && !svg.contains("href"), "{svg}");
        assert_eq!(svg.matches("<polyline class=\"p50\"").count(), 2, "before and after");
        assert_eq!(svg.matches("<polyline class=\"p99\"").count(), 2, "before and after");
        assert_eq!(svg.matches("<rect class=\"failed\"").count(), 1);
        assert!(svg.contains("5 failed") && svg.contains(">1 ms<") && svg.contains(">100 ms<"), "{svg}");
    }

    #[test]
    fn a_run_of_nothing_can_be_drawn() {
        assert_well_formed(&plot(&options(), &Summary::new(Duration::ZERO)));
    }
}
