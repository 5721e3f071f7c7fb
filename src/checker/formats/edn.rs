//! As much of EDN (<https://github.com/edn-format/edn>) as histories are written in.

use std::fmt::{self, Display, Formatter};
use std::iter::Peekable;
use std::str::Chars;

use crate::checker::history::ReadError;

/// How deep one element may be inside others. Histories need three.
const MAX_DEPTH: usize = 16;

/// One element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Edn {
    Nil,
    Bool(bool),
    Number(i64),
    Text(String),
    /// Without its colon.
    Keyword(String),
    /// A vector, a list or a set.
    Sequence(Vec<Edn>),
    Map(Vec<(Edn, Edn)>),
    /// A symbol, a character, a number that is not whole: nothing that histories depend on.
    Other(String),
}

impl Edn {
    /// What a map has for this keyword.
    pub(super) fn get(&self, key: &str) -> Option<&Edn> {
        let Edn::Map(entries) = self else { return None };
        entries.iter().find_map(|(name, value)| matches!(name, Edn::Keyword(name) if name == key).then_some(value))
    }

    /// The name in a map for this keyword, if it is there and a keyword.
    pub(super) fn name(&self, key: &str) -> Option<&str> {
        match self.get(key) {
            Some(Edn::Keyword(name)) => Some(name),
            _ => None,
        }
    }
}

impl Display for Edn {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Edn::Nil => f.write_str("nil"),
            Edn::Bool(value) => value.fmt(f),
            Edn::Number(value) => value.fmt(f),
            Edn::Text(text) => {
                f.write_str("\"")?;
                text.chars().try_for_each(|c| match c {
                    '"' | '\\' => write!(f, "\\{c}"),
                    '\n' => f.write_str("\\n"),
                    c if c.is_ascii_control() => write!(f, "\\u{:04x}", c as u32),
                    c => write!(f, "{c}"),
                })?;
                f.write_str("\"")
            }
            Edn::Keyword(name) => write!(f, ":{name}"),
            Edn::Sequence(elements) => {
                f.write_str("[")?;
                for (position, element) in elements.iter().enumerate() {
                    write!(f, "{}{element}", if position == 0 { "" } else { " " })?;
                }
                f.write_str("]")
            }
            Edn::Map(entries) => {
                f.write_str("{")?;
                for (position, (key, value)) in entries.iter().enumerate() {
                    write!(f, "{}{key} {value}", if position == 0 { "" } else { ", " })?;
                }
                f.write_str("}")
            }
            Edn::Other(word) => f.write_str(word),
        }
    }
}

/// Reads the maps of a file, each with the line that it begins on. They may stand alone, or be the elements of one sequence.
pub(super) fn read_all(text: &str) -> Result<Vec<(usize, Edn)>, ReadError> {
    let mut reader = Reader { rest: text.chars().peekable(), line: 1 };
    reader.maps().map_err(|why| ReadError { line: reader.line, why })
}

struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
    line: usize,
}

impl Reader<'_> {
    fn maps(&mut self) -> Result<Vec<(usize, Edn)>, String> {
        let mut maps = Vec::new();
        let is_sequence = matches!(self.skip_blanks(), Some('[' | '('));
        let closing = is_sequence.then(|| if self.take() == Some('[') { ']' } else { ')' });
        loop {
            match self.skip_blanks() {
                None if closing.is_some() => return Err("the file ends inside of a sequence".into()),
                None => return Ok(maps),
                Some(c) if closing == Some(c) => {
                    self.take();
                    return match self.skip_blanks() {
                        None => Ok(maps),
                        Some(c) => Err(format!("'{c}' follows the end")),
                    };
                }
                Some(_) => {
                    let line = self.line;
                    match self.element(0)? {
                        map @ Edn::Map(_) => maps.push((line, map)),
                        other => return Err(format!("'{other}' is no event: expected a map")),
                    }
                }
            }
        }
    }

    fn take(&mut self) -> Option<char> {
        let next = self.rest.next();
        self.line += usize::from(next == Some('\n'));
        next
    }

    /// Skips what means nothing, and shows what follows.
    fn skip_blanks(&mut self) -> Option<char> {
        loop {
            match self.rest.peek() {
                Some(';') => while self.take().is_some_and(|c| c != '\n') {},
                Some(c) if c.is_whitespace() || *c == ',' => {
                    self.take();
                }
                next => return next.copied(),
            }
        }
    }

    fn element(&mut self, depth: usize) -> Result<Edn, String> {
        if depth > MAX_DEPTH {
            return Err(format!("elements are more than {MAX_DEPTH} deep inside each other"));
        }
        match self.skip_blanks().ok_or("the file ends where an element is expected")? {
            '"' => self.text(),
            '[' => Ok(Edn::Sequence(self.until(']', depth)?)),
            '(' => Ok(Edn::Sequence(self.until(')', depth)?)),
            '{' => {
                let mut elements = self.until('}', depth)?.into_iter();
                let mut entries = Vec::new();
                while let Some(key) = elements.next() {
                    let value = elements.next().ok_or(format!("'{key}' has no value"))?;
                    entries.push((key, value));
                }
                Ok(Edn::Map(entries))
            }
            // A set, or a tag, which says how to read what follows.
            '#' => {
                self.take();
                if self.rest.peek() == Some(&'{') {
                    return Ok(Edn::Sequence(self.until('}', depth)?));
                }
                self.word();
                self.element(depth + 1)
            }
            _ => self.plain(),
        }
    }

    fn until(&mut self, closing: char, depth: usize) -> Result<Vec<Edn>, String> {
        self.take();
        let mut elements = Vec::new();
        while self.skip_blanks() != Some(closing) {
            elements.push(self.element(depth + 1)?);
        }
        self.take();
        Ok(elements)
    }

    fn text(&mut self) -> Result<Edn, String> {
        self.take();
        let mut text = String::new();
        loop {
            match self.take().ok_or("the file ends inside of a string")? {
                '"' => return Ok(Edn::Text(text)),
                '\\' => text.push(self.escaped()?),
                c => text.push(c),
            }
        }
    }

    fn escaped(&mut self) -> Result<char, String> {
        match self.take() {
            Some('n') => Ok('\n'),
            Some('t') => Ok('\t'),
            Some('r') => Ok('\r'),
            Some(c @ ('"' | '\\')) => Ok(c),
            Some('u') => {
                let hex: String = (0..4).filter_map(|_| self.take()).collect();
                let code = u32::from_str_radix(&hex, 16).ok().and_then(char::from_u32);
                code.ok_or(format!("'\\u{hex}' is no character"))
            }
            other => Err(format!("a string has a \\ before {other:?}")),
        }
    }

    fn word(&mut self) -> String {
        let mut word = String::new();
        while let Some(c) = self.rest.next_if(|c| !c.is_whitespace() && !",;\"[](){}".contains(*c)) {
            word.push(c);
        }
        word
    }

    fn plain(&mut self) -> Result<Edn, String> {
        let word = self.word();
        Ok(match word.as_str() {
            "" => return Err(format!("{:?} has no beginning", self.take().unwrap_or_default())),
            "nil" => Edn::Nil,
            "true" => Edn::Bool(true),
            "false" => Edn::Bool(false),
            _ => match (word.strip_prefix(':'), word.parse()) {
                (Some(name), _) => Edn::Keyword(name.to_owned()),
                (None, Ok(number)) => Edn::Number(number),
                (None, Err(_)) => Edn::Other(word),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_read_and_written() {
        let text = r#"{:a nil, :b [true -7 "q\"\\\nu é"], :c {1 x.y}, :d 1.5}"#;
        let read = read_all(text).unwrap();
        assert_eq!(read[0].1.to_string(), text);
        assert_eq!(read_all("; no\n[{:a #{1}}\n #tag {:a 1}]").unwrap().len(), 2);
        assert_eq!(read_all(r#"{:a "\u0001"}"#).unwrap()[0].1.to_string(), r#"{:a "\u0001"}"#);
        assert_eq!(read_all("").unwrap(), []);
    }

    #[test]
    fn what_is_no_edn_is_refused() {
        let deep = format!("{{:a {}", "[".repeat(10_000));
        for wrong in
            ["[", "{", "{:a}", "{:a \"", "{:a \"\\q\"}", "{:a \"\\ud800\"}", "]", "[{}] 1", "7", "{:a 1 ]", "#", &deep]
        {
            assert!(read_all(wrong).is_err(), "{wrong}");
        }
        assert_eq!(read_all("{}\n{}\n 5").unwrap_err().to_string(), "line 3: '5' is no event: expected a map");
    }
}
