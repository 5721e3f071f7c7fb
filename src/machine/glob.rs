//! Globs over bytes, with the syntax of Redis: `*`, `?`, `[abc]`, `[^abc]`, `[a-z]`, and `\` before a character that is
//! to be taken as it is.

/// A pattern, made ready for many texts.
///
/// A text is gone through once, byte by byte, and each byte costs one step for every 64 elements of the pattern at most, whatever the
/// pattern: a set of bits, one for each element, says which beginnings of the part between two stars end here (the *shift-and*
/// method). After a part has been found as far left as it is, only the next one matters.
pub struct Glob {
    /// What stars separate; at least one.
    parts: Vec<Part>,
}

/// Elements without a star, each of which takes one byte.
struct Part {
    elements: usize,
    /// For each byte which elements it fits, one bit each, 64 to a word.
    fitting: Vec<u64>,
}

#[derive(Clone, Copy)]
enum Element<'a> {
    Literal(u8),
    Any,
    /// From behind its opening bracket.
    Class(&'a [u8]),
}

impl Glob {
    /// The glob that this pattern describes. A bracket that is never closed ends with the pattern.
    pub fn new(pattern: &[u8]) -> Self {
        let (mut parts, mut elements, mut rest) = (Vec::new(), Vec::new(), pattern);
        loop {
            if let [b'*', after @ ..] = rest {
                parts.push(Part::of(&elements));
                elements.clear();
                rest = after;
            } else if let Some((element, after)) = first_element(rest) {
                elements.push(element);
                rest = after;
            } else {
                parts.push(Part::of(&elements));
                return Glob { parts };
            }
        }
    }

    /// Whether all of `text` matches.
    pub fn matches(&self, text: &[u8]) -> bool {
        let (Some(first), Some(last)) = (self.parts.first(), self.parts.last()) else { return false };
        if self.parts.len() == 1 {
            return first.elements == text.len() && first.fits(text);
        }
        let Some((start, rest)) = text.split_at_checked(first.elements) else { return false };
        let Some(length) = rest.len().checked_sub(last.elements) else { return false };
        let (mut rest, end) = rest.split_at(length);
        let between = self.parts.get(1..self.parts.len() - 1).unwrap_or_default();
        first.fits(start)
            && last.fits(end)
            && between.iter().all(|part| part.skip(rest).map(|after| rest = after).is_some())
    }
}

/// Whether all of `text` matches `pattern`.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    Glob::new(pattern).matches(text)
}

impl Part {
    fn of(elements: &[Element<'_>]) -> Self {
        let words = elements.len().div_ceil(64);
        let mut fitting = vec![0; 256 * words];
        for (at, element) in elements.iter().enumerate() {
            let mut set = |byte: u8| fitting[usize::from(byte) * words + at / 64] |= 1 << (at % 64);
            match *element {
                Element::Literal(byte) => set(byte),
                Element::Any => (0..=u8::MAX).for_each(set),
                Element::Class(class) => (0..=u8::MAX).filter(|byte| match_class(class, *byte).0).for_each(set),
            }
        }
        Part { elements: elements.len(), fitting }
    }

    /// The elements that a byte fits.
    fn fitting(&self, byte: u8) -> &[u64] {
        let words = self.fitting.len() / 256;
        &self.fitting[usize::from(byte) * words..][..words]
    }

    /// Whether this text, which has as many bytes as there are elements, fits them one by one.
    fn fits(&self, text: &[u8]) -> bool {
        text.iter().enumerate().all(|(at, byte)| self.fitting(*byte)[at / 64] >> (at % 64) & 1 == 1)
    }

    /// What follows the first place of `text` that fits.
    fn skip<'a>(&self, text: &'a [u8]) -> Option<&'a [u8]> {
        let Some(last) = self.elements.checked_sub(1) else { return Some(text) };
        let mut ending = vec![0u64; last / 64 + 1];
        for (at, byte) in text.iter().enumerate() {
            let mut carry = 1;
            for (ending, fitting) in ending.iter_mut().zip(self.fitting(*byte)) {
                let longer = *ending << 1 | carry;
                carry = *ending >> 63;
                *ending = longer & fitting;
            }
            if ending[last / 64] >> (last % 64) & 1 == 1 {
                return text.get(at + 1..);
            }
        }
        None
    }
}

/// The first element of a pattern that begins with no star, and what follows it.
fn first_element(pattern: &[u8]) -> Option<(Element<'_>, &[u8])> {
    Some(match pattern {
        [] => return None,
        [b'?', rest @ ..] => (Element::Any, rest),
        [b'[', rest @ ..] => (Element::Class(rest), match_class(rest, 0).1),
        [b'\\', escaped, rest @ ..] => (Element::Literal(*escaped), rest),
        [literal, rest @ ..] => (Element::Literal(*literal), rest),
    })
}

/// Matches a byte with a class, from behind its opening bracket; gives what follows the closing one.
fn match_class(class: &[u8], byte: u8) -> (bool, &[u8]) {
    let (negated, mut rest) = match class {
        [b'^', rest @ ..] => (true, rest),
        _ => (false, class),
    };
    let mut found = false;
    loop {
        rest = match rest {
            [] => return (found != negated, rest),
            [b']', rest @ ..] => return (found != negated, rest),
            [b'\\', escaped, rest @ ..] => {
                found |= *escaped == byte;
                rest
            }
            [from, b'-', to, rest @ ..] => {
                found |= (*from.min(to)..=*from.max(to)).contains(&byte);
                rest
            }
            [literal, rest @ ..] => {
                found |= *literal == byte;
                rest
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_as_redis_does() {
        let cases: &[(&str, &str, bool)] = &[
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "anything", true),
            ("a*", "a", true),
            ("a*c", "abcbc", true),
            ("a*c", "abcb", false),
            ("**a", "a", true),
            ("?", "", false),
            ("h?llo", "hello", true),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            ("[a-", "-", true),
            ("[", "a", false),
            ("[^", "a", true),
            (r"\*", "*", true),
            (r"\*", "a", false),
            (r"[\]]", "]", true),
            ("\\", "\\", true),
            ("user:*:name", "user:1:2:name", true),
            ("user:*:name", "user:1:names", false),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), *expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn no_pattern_takes_long() {
        let text = [&b"a".repeat(1 << 20)[..], b"b"].concat();
        let classes = [&b"*[^b]?".repeat(100)[..], b"a"].concat();
        // Were each place tried, this would be a thousand million steps for the second one, and not end in time.
        for pattern in [b"*a".repeat(500), [b"*", &b"a".repeat(1_000)[..], b"c*"].concat(), classes] {
            assert!(!matches(&pattern, &text));
        }
    }

    #[test]
    fn parts_of_more_than_a_word_are_found() {
        for length in [63, 64, 65, 127, 128, 129, 200] {
            let part: Vec<u8> = (0..length).map(|n| b'a' + (n % 7) as u8).collect();
            let pattern = [b"*", &part[..], b"*"].concat();
            assert!(matches(&pattern, &[b"abcdefgab", &part[..], b"x"].concat()));
            assert!(!matches(&pattern, &part[1..]));
            assert!(matches(&part, &part) && !matches(&part, &part[1..]));
        }
    }

    /// The definition, spelled out: a star takes nothing, or one byte and goes on.
    fn matches_naively(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            ([b'*', after @ ..], []) => matches_naively(after, text),
            ([b'*', after @ ..], [_, rest @ ..]) => matches_naively(after, text) || matches_naively(pattern, rest),
            _ => match (first_element(pattern), text) {
                (Some((element, pattern)), [byte, text @ ..]) => {
                    let fits = match element {
                        Element::Literal(literal) => literal == *byte,
                        Element::Any => true,
                        Element::Class(class) => match_class(class, *byte).0,
                    };
                    fits && matches_naively(pattern, text)
                }
                _ => false,
            },
        }
    }

    proptest::proptest! {
        #[test]
        fn the_leftmost_place_of_each_part_is_enough(pattern in r"[ab*?\[\]^\\-]{0,10}", text in "[ab-]{0,10}") {
            let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
            proptest::prop_assert_eq!(matches(pattern, text), matches_naively(pattern, text));
        }
    }
}
