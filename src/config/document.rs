//! An ini file as written: sections, keys and values, each with its line.
//!
//! The `ini` crate reads one line at a time, so that every mistake is known with its line; comments at the end of a line,
//! which it would leave in the value, are cut off before.

use ini::Ini;

use super::error::Mistake;

/// The sections of a file, in order. No two have the same name, and no two keys of a section.
#[derive(Default)]
pub(super) struct Document {
    pub sections: Vec<Section>,
}

pub(super) struct Section {
    pub name: String,
    pub line: usize,
    pub entries: Vec<Entry>,
}

pub(super) struct Entry {
    pub key: String,
    pub value: String,
    pub line: usize,
}

/// What a line says.
enum Line {
    Nothing,
    Section(String),
    Entry(String, String),
}

impl Document {
    /// Reads a file's bytes. The document is of use only if there are no mistakes.
    pub fn parse(bytes: &[u8]) -> (Document, Vec<Mistake>) {
        let mut document = Document::default();
        let mut mistakes = Vec::new();
        let mut current = None;
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        for (number, bytes) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let number = number + 1;
            let outcome = match parse_line(bytes) {
                Ok(Line::Nothing) => Ok(()),
                Ok(Line::Section(name)) => document.open(name, number, &mut current),
                Ok(Line::Entry(key, value)) => document.add(current, Entry { key, value, line: number }),
                Err(problem) => {
                    if bytes.trim_ascii_start().starts_with(b"[") {
                        // What follows is for a section of its own, and not wrong because of this line.
                        let _ = document.open(String::from_utf8_lossy(bytes).into(), number, &mut current);
                    }
                    Err(Mistake::of_section("", problem))
                }
            };
            mistakes.extend(outcome.err().map(|mistake| mistake.at(number)));
        }
        (document, mistakes)
    }

    /// The section of this name.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// Where a key stands, or else its section.
    pub fn line_of(&self, section: &str, key: Option<&str>) -> Option<usize> {
        let section = self.section(section)?;
        let entry = key.and_then(|key| section.entry(key));
        Some(entry.map_or(section.line, |entry| entry.line))
    }

    fn open(&mut self, name: String, line: usize, current: &mut Option<usize>) -> Result<(), Mistake> {
        if let Some(index) = self.sections.iter().position(|section| section.name == name) {
            *current = Some(index);
            let first = self.sections.get(index).map_or(0, |section| section.line);
            return Err(Mistake::of_section(&name, format!("this section is already there, at line {first}")));
        }
        *current = Some(self.sections.len());
        self.sections.push(Section { name, line, entries: Vec::new() });
        Ok(())
    }

    fn add(&mut self, current: Option<usize>, entry: Entry) -> Result<(), Mistake> {
        let Some(section) = current.and_then(|index| self.sections.get_mut(index)) else {
            let problem = format!("{} stands before the first section; expected [Cluster] above it", entry.key);
            return Err(Mistake::of_section("", problem));
        };
        if let Some(first) = section.entry(&entry.key) {
            let problem = format!("this key is already there, at line {} with the value {}", first.line, first.value);
            return Err(Mistake::of_value(&section.name, &entry.key, &entry.value, problem));
        }
        if entry.value.is_empty() {
            return Err(Mistake::of_key(&section.name, &entry.key, "has no value; leave the line out for the default"));
        }
        section.entries.push(entry);
        Ok(())
    }
}

impl Section {
    /// The entry of this key.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }
}

fn parse_line(bytes: &[u8]) -> Result<Line, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "this line is not UTF-8 text".to_string())?;
    let text = without_comment(text).trim();
    if text.is_empty() {
        return Ok(Line::Nothing);
    }
    if text.starts_with('#') {
        return Err("comments begin with ; and not with #".into());
    }
    let is_section = text.starts_with('[');
    let problem = || match text.find(['=', ':']) {
        _ if is_section => format!("`{text}` is not a section: expected [Name] and nothing behind it"),
        Some(1..) => format!("`{text}` has a quote without its other half: expected none, or two around the value"),
        _ => format!("`{text}` makes no sense here: expected `Key = value` or `[Section]`"),
    };
    let ini = Ini::load_from_str_noescape(text).map_err(|_| problem())?;
    // Of a single line, the last section is the only one that can have anything in it.
    let (name, entries) = ini.iter().next_back().ok_or_else(problem)?;
    match (name, entries.iter().next()) {
        (Some(name), None) => Ok(Line::Section(name.into())),
        (None, Some((key, value))) => Ok(Line::Entry(key.into(), value.into())),
        _ => Err(problem()),
    }
}

/// The line without the comment at its end: a `;` at the start or after white space, unless in a quoted value.
fn without_comment(line: &str) -> &str {
    let mut quote = None;
    let mut previous = None;
    let mut before_space = None;
    for (at, char) in line.char_indices() {
        match (quote, char) {
            (Some(open), _) if open == char => quote = None,
            (Some(_), _) => {}
            (None, ';') if previous.is_none_or(char::is_whitespace) => return line.get(..at).unwrap_or(line),
            (None, '"' | '\'') if matches!(before_space, Some('=' | ':')) => quote = Some(char),
            (None, _) => {}
        }
        previous = Some(char);
        if !char.is_whitespace() {
            before_space = Some(char);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_end_a_line_wherever_they_stand() {
        for (line, expected) in [
            ("; all of it", ""),
            (";; all of it", ""),
            ("Key = value ; why", "Key = value "),
            ("Key = value\t;; why", "Key = value\t"),
            ("Key = a;b", "Key = a;b"),
            ("Key = ; nothing", "Key = "),
            ("Key = \"a ; b\" ; why", "Key = \"a ; b\" "),
            ("Key = it's ; isn't it", "Key = it's "),
            ("[Section] ; 'tis", "[Section] "),
        ] {
            assert_eq!(without_comment(line), expected, "{line}");
        }
    }

    #[test]
    fn sections_keys_and_values_keep_their_lines() {
        let (document, mistakes) =
            Document::parse(b"\xef\xbb\xbf[A]\r\nx = 1 ; one\r\n\r\n;; no\r\n  [B.C]\r\n y=\"2 ; 3\"");
        assert_eq!(mistakes, []);
        let found: Vec<_> = document
            .sections
            .iter()
            .flat_map(|section| section.entries.iter().map(move |entry| (section, entry)))
            .map(|(section, entry)| {
                (section.name.as_str(), section.line, entry.key.as_str(), entry.value.as_str(), entry.line)
            })
            .collect();
        assert_eq!(found, [("A", 1, "x", "1", 2), ("B.C", 5, "y", "2 ; 3", 6)]);
        assert_eq!(document.line_of("A", Some("x")), Some(2));
        assert_eq!(document.line_of("A", Some("z")), Some(1));
        assert_eq!(document.line_of("C", None), None);
    }

    #[test]
    fn any_bytes_are_read_without_a_panic() {
        for bytes in
            [&b"[\n]\n=\n:\n\"\n\\\n[]\n[x\n= \"\n'='\n\x00=\x00"[..], b"\xff\xfe", b"", b"\n\n", b"k = 'a", b"=v"]
        {
            let (document, mistakes) = Document::parse(bytes);
            assert!(document.sections.len() + mistakes.len() <= bytes.len());
        }
    }
}
