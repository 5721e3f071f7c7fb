//! The command that does it again, as a shell takes it.

/// The command line as it was given, word by word, beginning with the program.
pub fn given() -> Vec<String> {
    std::env::args_os().map(|word| quoted(&word.to_string_lossy())).collect()
}

/// A word as a shell takes it.
pub fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:%+@".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_a_word_as_one() {
        for (word, expected) in [("a-b_c/d.e", "a-b_c/d.e"), ("", "''"), ("a b", "'a b'"), ("it's $1", r"'it'\''s $1'")]
        {
            assert_eq!(quoted(word), expected);
        }
    }
}
