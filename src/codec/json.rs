//! Canonical JSON: one text for each value, so that values can be stored and compared as bytes.
//!
//! No white space. The members of an object are sorted by name (by code point); of several with one name the last
//! counts. Strings have the shortest escapes. Numbers are exact and never rounded, however long: one that is written
//! without fraction and exponent is an integer, and differs from all others, because whoever wrote `1` must not read
//! `1.0`; the others are equal when they are the same decimal: `1.0`, `1.00` and `10e-1`. There is no negative zero.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Deserialize;
use serde_json::value::RawValue;

/// Deepest nesting of arrays and objects.
const DEPTH_MAX: usize = 128;
/// Integers of so many digits are exact in every JSON implementation, even where all numbers are doubles.
const PORTABLE_DIGITS: usize = 15;

/// A value's canonical text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canonical {
    /// The text.
    pub text: String,
    /// No number in it could change when other software parses the text and prints it again.
    pub portable: bool,
}

/// The canonical text of a JSON value. Fails, saying why, on what JSON's grammar allows but no value stands for: half of
/// a surrogate pair, nesting beyond 128, an exponent beyond 32 bits.
pub fn canonical(value: &RawValue) -> Result<Canonical, String> {
    let mut walker = Walker { rest: value.get(), out: String::new(), portable: true };
    walker.value(0)?;
    Ok(Canonical { text: walker.out, portable: walker.portable })
}

/// The members of a JSON object, not looked into.
#[derive(Debug)]
pub struct Object<'a>(BTreeMap<String, &'a RawValue>);

impl<'a> Object<'a> {
    /// Parses an object.
    pub fn parse(text: &'a str) -> Result<Self, String> {
        serde_json::from_str(text).map(Object).map_err(|error| error.to_string())
    }

    /// A member, if there is one with this name.
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.get(name).copied()
    }

    /// A member that must be there.
    pub fn required(&self, name: &str) -> Result<&'a RawValue, String> {
        self.get(name).ok_or_else(|| format!("the field `{name}` is missing"))
    }

    /// A member that must be there and be of this type.
    pub fn field<T: Deserialize<'a>>(&self, name: &str) -> Result<T, String> {
        typed(name, self.required(name)?)
    }

    /// A member that must be of this type if it is there.
    pub fn optional<T: Deserialize<'a>>(&self, name: &str) -> Result<Option<T>, String> {
        self.get(name).map(|value| typed(name, value)).transpose()
    }

    /// The canonical text of a member that must be there.
    pub fn canonical(&self, name: &str) -> Result<Canonical, String> {
        canonical(self.required(name)?).map_err(|why| format!("the field `{name}`: {why}"))
    }
}

fn typed<'a, T: Deserialize<'a>>(name: &str, value: &'a RawValue) -> Result<T, String> {
    serde_json::from_str(value.get()).map_err(|error| format!("the field `{name}`: {error}"))
}

/// Walks over a text whose grammar has been checked, and writes its canonical form.
struct Walker<'a> {
    rest: &'a str,
    out: String,
    portable: bool,
}

impl<'a> Walker<'a> {
    fn value(&mut self, depth: usize) -> Result<(), String> {
        if depth > DEPTH_MAX {
            return Err(format!("nested more than {DEPTH_MAX} deep"));
        }
        self.rest = self.rest.trim_ascii_start();
        match self.rest.as_bytes().first() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => {
                let string = self.string()?;
                self.out += &quoted(&string)?;
                Ok(())
            }
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.literal(),
        }
    }

    fn object(&mut self, depth: usize) -> Result<(), String> {
        self.take("{");
        let before = std::mem::take(&mut self.out);
        let mut members = BTreeMap::new();
        while !self.take("}") {
            self.take(",");
            self.rest = self.rest.trim_ascii_start();
            let name = self.string()?;
            self.take(":");
            self.value(depth + 1)?;
            members.insert(name, std::mem::take(&mut self.out));
        }
        self.out = before + "{";
        for (number, (name, value)) in members.iter().enumerate() {
            self.out += if number > 0 { "," } else { "" };
            self.out += &quoted(name)?;
            self.out += ":";
            self.out += value;
        }
        self.out += "}";
        Ok(())
    }

    fn array(&mut self, depth: usize) -> Result<(), String> {
        self.take("[");
        self.out += "[";
        while !self.take("]") {
            if self.take(",") {
                self.out += ",";
            }
            self.value(depth + 1)?;
        }
        self.out += "]";
        Ok(())
    }

    fn string(&mut self) -> Result<String, String> {
        let bytes = self.rest.as_bytes();
        let mut end = 1;
        while let Some(byte) = bytes.get(end).filter(|byte| **byte != b'"') {
            end += if *byte == b'\\' { 2 } else { 1 };
        }
        let (token, rest) = self.rest.split_at_checked(end + 1).ok_or("a string does not end")?;
        self.rest = rest;
        serde_json::from_str(token).map_err(|error| format!("a string is not valid: {error}"))
    }

    fn number(&mut self) -> Result<(), String> {
        let end = self.rest.find(|c: char| !matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E'));
        let (token, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        if token.contains(['.', 'e', 'E']) {
            self.portable = false;
            return decimal(token, &mut self.out);
        }
        self.portable &= token.len() <= PORTABLE_DIGITS;
        self.out += if token == "-0" { "0" } else { token };
        Ok(())
    }

    fn literal(&mut self) -> Result<(), String> {
        let word = ["null", "true", "false"].into_iter().find(|word| self.rest.starts_with(word));
        let word = word.ok_or("a value is missing")?;
        self.take(word);
        self.out += word;
        Ok(())
    }

    /// Takes `token` off the front, if it is there.
    fn take(&mut self, token: &str) -> bool {
        let rest = self.rest.trim_ascii_start().strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }
}

fn quoted(string: &str) -> Result<String, String> {
    serde_json::to_string(string).map_err(|error| error.to_string())
}

/// Writes a number that has a fraction or an exponent, always with a fraction, so that it is not taken for an integer.
fn decimal(token: &str, out: &mut String) -> Result<(), String> {
    let (sign, token) = token.strip_prefix('-').map_or(("", token), |rest| ("-", rest));
    let (mantissa, exponent) = token.split_once(['e', 'E']).unwrap_or((token, "0"));
    let exponent: i32 = exponent.parse().map_err(|_| "the exponent of a number is too large")?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0');
    // The number is 0.DIGITS * 10^point.
    let point = whole.len() as i64 + i64::from(exponent) - (digits.len() - significant.len()) as i64;
    let digits = significant.trim_end_matches('0');
    if digits.is_empty() {
        *out += "0.0";
        return Ok(());
    }
    *out += sign;
    let length = digits.len() as i64;
    match point {
        -5..=0 => *out += &format!("0.{}{digits}", "0".repeat(-point as usize)),
        1..=21 if point >= length => *out += &format!("{digits}{}.0", "0".repeat((point - length) as usize)),
        1..=21 => {
            let (whole, fraction) = digits.split_at(point as usize);
            *out += &format!("{whole}.{fraction}");
        }
        _ => {
            let (first, others) = digits.split_at(1);
            let others = if others.is_empty() { "0" } else { others };
            let _ = write!(out, "{first}.{others}e{}", point - 1);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn of(text: &str) -> Result<Canonical, String> {
        canonical(serde_json::from_str(text).expect("JSON"))
    }

    fn text(text: &str) -> String {
        of(text).expect("canonical").text
    }

    #[test]
    fn numbers_are_exact() {
        for (input, expected) in [
            ("1", "1"),
            ("-0", "0"),
            ("-17", "-17"),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
            ("1.0", "1.0"),
            ("1.00", "1.0"),
            ("10e-1", "1.0"),
            ("1E2", "100.0"),
            ("1e+2", "100.0"),
            ("-0.0", "0.0"),
            ("0e999", "0.0"),
            ("-2.50", "-2.5"),
            ("0.001", "0.001"),
            ("0.0000001", "1.0e-7"),
            ("12.5e30", "1.25e31"),
            ("1e400", "1.0e400"),
            ("100000000000000000000.0", "100000000000000000000.0"),
            ("0.1000000000000000055511151231257827", "0.1000000000000000055511151231257827"),
        ] {
            assert_eq!(text(input), expected, "{input}");
            assert_eq!(text(expected), expected, "the canonical form of a canonical form is itself");
        }
        assert!(of("1e99999999999").is_err());
    }

    #[test]
    fn one_text_for_each_value() {
        assert_eq!(text(r#" { "b" : [ 1 , { } , [ ] ] , "a" : "x" } "#), r#"{"a":"x","b":[1,{},[]]}"#);
        assert_eq!(text(r#"{"a":1,"a":2}"#), r#"{"a":2}"#);
        assert_eq!(text(r#""\u0041\/\n\u00e9\ud83d\ude00\u0001""#), "\"A/\\né😀\\u0001\"");
        assert_eq!(text(r#"{"a,}]\"":[true,false,null]}"#), r#"{"a,}]\"":[true,false,null]}"#);
        assert_ne!(text("1"), text("\"1\""));
        assert_ne!(text("1"), text("1.0"));
    }

    #[test]
    fn what_is_no_value_is_refused() {
        assert!(of(r#""\ud800""#).is_err(), "half of a surrogate pair");
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(of(&nested(128)).is_ok());
        assert!(of(&nested(200_000)).unwrap_err().contains("deep"));
    }

    #[test]
    fn portable_is_what_doubles_can_hold() {
        for yes in ["1", "\"1.5\"", "999999999999999", r#"{"a":[null]}"#] {
            assert!(of(yes).unwrap().portable, "{yes}");
        }
        for no in ["1.5", "1e3", "12345678901234567", r#"{"a":[0.1]}"#] {
            assert!(!of(no).unwrap().portable, "{no}");
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<i32>().prop_map(|eighths| Value::from(f64::from(eighths) / 8.0)),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(".*", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn keeps_the_value_and_does_not_depend_on_the_form(value in any_value()) {
            let compact = text(&value.to_string());
            prop_assert_eq!(&text(&serde_json::to_string_pretty(&value).unwrap()), &compact);
            prop_assert_eq!(&text(&compact), &compact);
            prop_assert_eq!(serde_json::from_str::<Value>(&compact).unwrap(), value);
        }

        #[test]
        fn keeps_every_double(number in any::<f64>().prop_filter("finite", |number| number.is_finite())) {
            prop_assert_eq!(text(&serde_json::to_string(&number).unwrap()).parse::<f64>().unwrap(), number);
        }
    }
}
