//! Lines to words and back: quotes and escapes.
//!
//! Blanks separate words. `'...'` takes everything as it is; `"..."` knows `\\ \" \n \r \t \0` and `\xHH` for any byte;
//! outside of quotes a backslash takes the next character as it is. Quoted and unquoted parts side by side are one word.

/// The words of a line, or what is wrong with its quotes.
pub fn split(line: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut rest = line.iter().copied();
    while let Some(byte) = rest.next() {
        if byte.is_ascii_whitespace() {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert_default();
        match byte {
            b'\'' => single_quoted(&mut rest, word)?,
            b'"' => double_quoted(&mut rest, word)?,
            b'\\' => word.push(rest.next().ok_or("nothing follows the backslash at the end")?),
            byte => word.push(byte),
        }
    }
    words.extend(word);
    Ok(words)
}

fn single_quoted(rest: &mut impl Iterator<Item = u8>, word: &mut Vec<u8>) -> Result<(), String> {
    loop {
        match rest.next().ok_or("a ' is not closed")? {
            b'\'' => return Ok(()),
            byte => word.push(byte),
        }
    }
}

fn double_quoted(rest: &mut impl Iterator<Item = u8>, word: &mut Vec<u8>) -> Result<(), String> {
    loop {
        let byte = match rest.next().ok_or("a \" is not closed")? {
            b'"' => return Ok(()),
            b'\\' => match rest.next().ok_or("a \" is not closed")? {
                byte @ (b'\\' | b'"') => byte,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'0' => 0,
                b'x' => hex(rest.next(), rest.next()).ok_or("\\x needs two hexadecimal digits, as in \\x1b")?,
                other => {
                    let other = char::from(other);
                    return Err(format!(
                        "\\{other} is unknown inside of \"...\": there are \\\\ \\\" \\n \\r \\t \\0 \\xHH"
                    ));
                }
            },
            byte => byte,
        };
        word.push(byte);
    }
}

fn hex(high: Option<u8>, low: Option<u8>) -> Option<u8> {
    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// A word that [`split`] takes apart to the same bytes, on one line and safe on any terminal: bare if that will do,
/// otherwise as `"..."`.
pub fn quote(word: &[u8]) -> String {
    let bare = |char: char| !char.is_whitespace() && !char.is_control() && !matches!(char, '\'' | '"' | '\\');
    if let Ok(text) = std::str::from_utf8(word)
        && !text.is_empty()
        && !text.starts_with('#')
        && text.chars().all(bare)
    {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for chunk in word.utf8_chunks() {
        chunk.valid().chars().for_each(|char| push_escaped(char, &mut quoted));
        chunk.invalid().iter().for_each(|byte| push_hex(*byte, &mut quoted));
    }
    quoted.push('"');
    quoted
}

fn push_escaped(char: char, out: &mut String) {
    match char {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '"' | '\\' => out.extend(['\\', char]),
        char if char.is_control() => char.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| push_hex(byte, out)),
        char => out.push(char),
    }
}

fn push_hex(byte: u8, out: &mut String) {
    out.push_str(&format!("\\x{byte:02x}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        split(line.as_bytes()).unwrap().into_iter().map(|word| String::from_utf8(word).unwrap()).collect()
    }

    #[test]
    fn words_are_split_at_blanks_outside_of_quotes() {
        assert_eq!(words("  set\ta  1 \r\n"), ["set", "a", "1"]);
        assert_eq!(words(r#"set 'a b' "c d" e\ f"#), ["set", "a b", "c d", "e f"]);
        assert_eq!(words(r#"a'b c'"d"\' '' "" "#), ["ab cd'", "", ""]);
        assert_eq!(words(r#"'a\n"b' "a\n\"b\\ \x41""#), ["a\\n\"b", "a\n\"b\\ A"]);
        assert_eq!(words(""), [""; 0]);
        assert_eq!(split(br#""\xff\x00\0""#).unwrap(), [b"\xff\0\0"]);
    }

    #[test]
    fn broken_quotes_are_explained() {
        for (line, why) in [
            ("set a 'b", "a ' is not closed"),
            ("set a \"b\\\"", "a \" is not closed"),
            ("set a \"b\\", "a \" is not closed"),
            ("set a b\\", "nothing follows the backslash at the end"),
            (r#""\x4""#, "\\x needs two hexadecimal digits, as in \\x1b"),
            (r#""\d""#, r#"\d is unknown inside of "...": there are \\ \" \n \r \t \0 \xHH"#),
        ] {
            assert_eq!(split(line.as_bytes()), Err(why.to_owned()), "{line}");
        }
    }

    #[test]
    fn quotes_only_where_needed() {
        assert_eq!(quote(b"user:1"), "user:1");
        assert_eq!(quote("grüße".as_bytes()), "grüße");
        assert_eq!(quote(b""), r#""""#);
        assert_eq!(quote(b"#1"), r##""#1""##);
        assert_eq!(quote(b"a b\n\"\x1b[2J\xff"), r#""a b\n\"\x1b[2J\xff""#);
    }

    proptest::proptest! {
        #[test]
        fn what_is_quoted_is_read_back(word: Vec<u8>) {
            proptest::prop_assert_eq!(split(quote(&word).as_bytes()).unwrap(), [word]);
        }

        #[test]
        fn no_line_can_make_it_panic(line: Vec<u8>) {
            let _ = split(&line);
        }
    }
}
