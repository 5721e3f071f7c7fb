//! Draws what goes wrong.

use super::draw::Kinds;
use super::fault::{Fault, FaultKind, Loses, Target, Way};
use super::stories::HOUR_MS;
use crate::runtime::simulated::dice::Dice;

/// Makes a fault of one kind.
type Make<'a> = fn(&mut Faults<'a>) -> FaultKind;

/// Draws what goes wrong, within these bounds.
pub(super) struct Faults<'a> {
    pub dice: &'a mut Dice,
    pub kinds: &'a Kinds,
    pub nodes: u64,
    pub time_ms: u64,
    pub timeout_ms: u64,
}

impl<'a> Faults<'a> {
    pub fn draw(mut self) -> Vec<Fault> {
        let mut makers: Vec<Make<'a>> = Vec::new();
        let kinds = self.kinds;
        let all: [(bool, Make<'a>); 17] = [
            (kinds.cut, Self::cut),
            (kinds.cut, Self::isolate),
            (kinds.cut, |faults| faults.unheard(false)),
            (kinds.clog, |faults| faults.unheard(true)),
            (kinds.twice, Self::storm),
            (kinds.clog, Self::clog),
            (kinds.kill, Self::kill),
            (kinds.power, Self::power_loss),
            (kinds.stop, Self::stop),
            (kinds.pause, Self::pause),
            (kinds.slow, Self::slow),
            (kinds.clock, Self::clock_rate),
            (kinds.hang, Self::hang),
            (kinds.fail, Self::fail),
            (kinds.full, Self::full),
            (kinds.transfer, |_| FaultKind::Transfer),
            (kinds.transfer, |faults| FaultKind::OldSnapshot { target: faults.target() }),
        ];
        makers.extend(all.iter().filter(|(on, _)| *on).map(|(_, make)| *make));
        let mut faults = Vec::new();
        if !makers.is_empty() {
            // From a fault in every few seconds, or some in all, to one in every election timeout.
            let mean_ms = self.dice.of_any_size(self.timeout_ms, (self.time_ms / 4).clamp(self.timeout_ms, 4_000));
            // Now and then before the nodes are started for the first time.
            let mut at_ms = if self.dice.once_in(8) { 0 } else { self.dice.below(2 * mean_ms) };
            while at_ms < self.time_ms {
                let make = *self.dice.pick(&makers);
                faults.push(Fault { at_ms, kind: make(&mut self) });
                at_ms += self.dice.below(2 * mean_ms) + 1;
            }
        }
        faults
    }

    fn target(&mut self) -> Target {
        match self.dice.below(20) {
            0..10 => Target::Leader,
            10 => Target::Everyone,
            _ => Target::Node(self.dice.between(1, self.nodes)),
        }
    }

    fn a_while(&mut self) -> u64 {
        a_while(self.dice, self.timeout_ms)
    }

    /// A bridge, a ring, a majority and a minority, one alone; one way or both ways.
    fn links(&mut self) -> Vec<(u64, u64)> {
        let mut nodes: Vec<u64> = (1..=self.nodes).collect();
        self.dice.shuffle(&mut nodes);
        let apart = |a: &[u64], b: &[u64]| -> Vec<(u64, u64)> {
            a.iter().flat_map(|&from| b.iter().map(move |&to| (from, to))).collect()
        };
        let one_way = match self.dice.below(5) {
            0 => apart(&nodes[..1], &nodes[1..]),
            1 => {
                let (few, rest) = nodes.split_at(nodes.len() / 2);
                apart(few, rest)
            }
            // All but the bridge are on one side of it.
            2 if nodes.len() > 2 => {
                let (left, right) = nodes[1..].split_at((nodes.len() - 1) / 2);
                apart(left, right)
            }
            // In a ring each hears its neighbours only.
            3 => {
                let count = nodes.len();
                let far = |a: usize, b: usize| a.abs_diff(b) > 1 && a.abs_diff(b) != count - 1;
                (0..count)
                    .flat_map(|a| (0..a).map(move |b| (a, b)))
                    .filter(|&(a, b)| far(a, b))
                    .map(|(a, b)| (nodes[a], nodes[b]))
                    .collect()
            }
            _ => {
                let all = apart(&nodes, &nodes).into_iter().filter(|(from, to)| from != to).collect::<Vec<_>>();
                self.dice.some(&all)
            }
        };
        let back = one_way.iter().map(|&(from, to)| (to, from));
        let mut links: Vec<(u64, u64)> =
            if self.dice.once_in(3) { one_way } else { one_way.iter().copied().chain(back).collect() };
        links.sort_unstable();
        links.dedup();
        links
    }

    fn cut(&mut self) -> FaultKind {
        FaultKind::Cut { links: self.links(), for_ms: self.a_while() }
    }

    fn isolate(&mut self) -> FaultKind {
        let (target, way) = (self.target(), *self.dice.pick(&[Way::Both, Way::Out, Way::In]));
        FaultKind::Isolate { target, way, for_ms: self.a_while() }
    }

    fn unheard(&mut self, held: bool) -> FaultKind {
        let (target, way) = (self.target(), *self.dice.pick(&[Way::Both, Way::Out, Way::In]));
        FaultKind::Unheard { target, way, held, for_ms: self.a_while() }
    }

    fn storm(&mut self) -> FaultKind {
        FaultKind::Storm { copies: self.dice.between(1, 5), for_ms: self.a_while() }
    }

    fn clog(&mut self) -> FaultKind {
        FaultKind::Clog { links: self.links(), for_ms: self.a_while() }
    }

    fn kill(&mut self) -> FaultKind {
        FaultKind::Kill { target: self.target(), down_ms: self.a_while() }
    }

    fn power_loss(&mut self) -> FaultKind {
        let after = if self.dice.once_in(2) { 0 } else { self.dice.between(1, 40) };
        let loses = *self.dice.pick(&[Loses::Some, Loses::Some, Loses::Names, Loses::Sectors, Loses::All]);
        FaultKind::PowerLoss { target: self.target(), after, loses, down_ms: self.a_while() }
    }

    fn stop(&mut self) -> FaultKind {
        if self.dice.once_in(4) {
            return FaultKind::SecondProcess { target: self.target() };
        }
        FaultKind::Stop { target: self.target(), down_ms: self.a_while() }
    }

    fn pause(&mut self) -> FaultKind {
        FaultKind::Pause { target: self.target(), for_ms: self.a_while() }
    }

    fn slow(&mut self) -> FaultKind {
        if self.dice.once_in(4) {
            return FaultKind::Busy { target: self.target(), for_ms: self.a_while() };
        }
        FaultKind::Slow { target: self.target(), times: self.dice.of_any_size(2, 200), for_ms: self.a_while() }
    }

    fn clock_rate(&mut self) -> FaultKind {
        if self.dice.once_in(4) {
            return FaultKind::ClockJumps { target: self.target(), by_ms: self.dice.of_any_size(1, 2 * HOUR_MS) };
        }
        FaultKind::ClockRate {
            target: self.target(),
            per_mille: *self.dice.pick(&[500, 800, 950, 1000, 1050, 1500, 3000]),
        }
    }

    fn hang(&mut self) -> FaultKind {
        FaultKind::DiskHangs { target: self.target(), for_ms: self.a_while() }
    }

    fn fail(&mut self) -> FaultKind {
        let (target, after, once) = (self.target(), self.dice.below(40), self.dice.once_in(2));
        FaultKind::DiskFails { target, after, once, down_ms: self.a_while() }
    }

    fn full(&mut self) -> FaultKind {
        FaultKind::DiskFull { target: self.target(), room: self.dice.of_any_size(1, 64 << 10), for_ms: self.a_while() }
    }
}

/// Around the election timeout, often shorter, at times much longer.
pub(super) fn a_while(dice: &mut Dice, timeout_ms: u64) -> u64 {
    dice.of_any_size(timeout_ms / 10, 16 * timeout_ms)
}
