//! How figures are written for people: counts, times that passed, and what is too long to be shown; and how a time is read that
//! they give.

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

/// The beginning of a text that is longer than so many characters.
pub fn excerpt(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// A time that is given in seconds, from a tenth of one to a day.
///
/// # Errors
/// When it is none, or not in that range; in words for people.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=86_400.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "expected seconds, from 0.1 to 86400".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!((excerpt("abc", 3), excerpt("abcd", 3)), ("abc".to_owned(), "abc...".to_owned()));
        assert_eq!(excerpt("äöü", 2), "äö...");
    }

    #[test]
    fn seconds_are_a_number_in_range() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for wrong in ["", "x", "0", "-1", "NaN", "inf", "86401"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }

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
