//! Globs over bytes, with the syntax of Redis: `*`, `?`, `[abc]`, `[^abc]`, `[a-z]`, and `\` before a character that is
//! to be taken as it is.

/// Whether all of `text` matches `pattern`. A bracket that is never closed ends with the pattern.
///
/// Takes at most `pattern.len() * text.len()` steps: after a mismatch only the last star needs to take more, since what
/// came before it has matched as far left as it can.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut rest_of_pattern, mut rest) = (pattern, text);
    let mut last_star: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', after @ ..] = rest_of_pattern {
            last_star = Some((after, rest));
            rest_of_pattern = after;
            continue;
        }
        match (match_one(rest_of_pattern, rest), &mut last_star) {
            (Some((next_pattern, next)), _) => (rest_of_pattern, rest) = (next_pattern, next),
            (None, _) if rest_of_pattern.is_empty() && rest.is_empty() => return true,
            (None, Some((after, taken))) => match taken.split_first() {
                Some((_, shorter)) => {
                    *taken = shorter;
                    (rest_of_pattern, rest) = (after, shorter);
                }
                None => return false,
            },
            (None, None) => return false,
        }
    }
}

/// Matches one byte of `text` with the first element of `pattern`, which is not a star; gives what is left of both.
fn match_one<'p, 't>(pattern: &'p [u8], text: &'t [u8]) -> Option<(&'p [u8], &'t [u8])> {
    let (&byte, text) = text.split_first()?;
    let (holds, pattern) = match pattern {
        [] => return None,
        [b'?', rest @ ..] => (true, rest),
        [b'[', rest @ ..] => match_class(rest, byte),
        [b'\\', escaped, rest @ ..] => (*escaped == byte, rest),
        [literal, rest @ ..] => (*literal == byte, rest),
    };
    holds.then_some((pattern, text))
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
    fn many_stars_take_no_exponential_time() {
        let pattern = b"*a".repeat(500);
        let text = [&b"a".repeat(20_000)[..], b"b"].concat();
        assert!(!matches(&pattern, &text));
    }

    /// The definition, spelled out: a star takes nothing, or one byte and goes on.
    fn matches_naively(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            ([b'*', after @ ..], []) => matches_naively(after, text),
            ([b'*', after @ ..], [_, rest @ ..]) => matches_naively(after, text) || matches_naively(pattern, rest),
            _ => match_one(pattern, text).is_some_and(|(pattern, text)| matches_naively(pattern, text)),
        }
    }

    proptest::proptest! {
        #[test]
        fn backtracking_to_the_last_star_is_enough(pattern in r"[ab*?\[\]^\\-]{0,10}", text in "[ab-]{0,10}") {
            let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
            proptest::prop_assert_eq!(matches(pattern, text), matches_naively(pattern, text));
        }
    }
}
