//! How figures are written for people, wherever the project shows them.

use std::time::Duration;

/// A number, its digits in groups of three.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A time in three digits, with its unit.
pub fn duration(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    let (value, unit) = match micros {
        micros if micros < 999.5 => (micros, "us"),
        micros if micros < 999_500.0 => (micros / 1e3, "ms"),
        micros => (micros / 1e6, "s"),
    };
    match value {
        value if value.fract().abs() < 1e-9 || value >= 100.0 => format!("{value:.0} {unit}"),
        value if value >= 10.0 => format!("{value:.1} {unit}"),
        value => format!("{value:.2} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_in_groups() {
        let cases = [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")];
        assert!(cases.iter().all(|(number, words)| grouped(*number) == *words));
    }

    #[test]
    fn times_are_short() {
        for (nanos, words) in [
            (0, "0 us"),
            (1_500, "1.50 us"),
            (100_000, "100 us"),
            (999_700, "1.00 ms"),
            (1_000_000, "1 ms"),
            (26_340_000, "26.3 ms"),
            (2_000_000_000, "2 s"),
        ] {
            assert_eq!(duration(Duration::from_nanos(nanos)), words);
        }
    }
}
