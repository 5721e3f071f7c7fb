//! Lines of a stream, with a limit.

use std::io::{self, BufRead, ErrorKind};

/// Longest line, in bytes. Longer ones are skipped, without ever being in memory as a whole.
pub const LINE_BYTES_MAX: usize = 16 << 20;

/// What [`read_line`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// A line is in the buffer, without its end.
    Complete,
    /// A line was too long and has been skipped.
    TooLong,
    /// The stream has ended.
    End,
}

/// Reads one line of at most `bytes_max` into `line`, whose content it replaces. A last line need not have an end.
pub fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>, bytes_max: usize) -> io::Result<Line> {
    line.clear();
    let mut too_long = false;
    let mut found_any = false;
    loop {
        let available = match input.fill_buf() {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            available => available?,
        };
        found_any |= !available.is_empty();
        let end = available.iter().position(|byte| *byte == b'\n');
        let (part, _) = available.split_at(end.unwrap_or(available.len()));
        too_long |= line.len() + part.len() > bytes_max;
        if !too_long {
            line.extend_from_slice(part);
        }
        let at_end = available.is_empty();
        let taken = part.len() + usize::from(end.is_some());
        input.consume(taken);
        if at_end && !found_any {
            return Ok(Line::End);
        }
        if at_end || end.is_some() {
            return Ok(if too_long { Line::TooLong } else { Line::Complete });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    #[test]
    fn long_lines_are_skipped_and_the_next_is_read() {
        for chunk in [1, 2, 3, 100] {
            let mut input = BufReader::with_capacity(chunk, &b"ab\n\n12345\n1234\r\nend"[..]);
            let mut line = Vec::new();
            let mut found = Vec::new();
            loop {
                match read_line(&mut input, &mut line, 5).unwrap() {
                    Line::Complete => found.push(String::from_utf8(line.clone()).unwrap()),
                    Line::TooLong => found.push("too long".into()),
                    Line::End => break,
                }
            }
            assert_eq!(found, ["ab", "", "12345", "1234\r", "end"]);
            let mut input = BufReader::with_capacity(chunk, &b"123456\nab\n1234567"[..]);
            assert_eq!(read_line(&mut input, &mut line, 5).unwrap(), Line::TooLong);
            assert_eq!(read_line(&mut input, &mut line, 5).unwrap(), Line::Complete);
            assert_eq!(line, b"ab");
            assert_eq!(read_line(&mut input, &mut line, 5).unwrap(), Line::TooLong);
            assert_eq!(read_line(&mut input, &mut line, 5).unwrap(), Line::End);
            assert!(line.capacity() < 64, "what is skipped is not kept");
        }
    }
}
