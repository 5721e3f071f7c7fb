//! Drawings with time from left to right, as SVG: for a page, or as files.

use std::fmt::Write as _;
use std::time::Duration;

/// How time becomes a place from left to right.
#[derive(Clone, Copy)]
pub struct Time {
    /// What is at the right end. Not zero.
    pub end: Duration,
}

impl Time {
    /// Pixels from the beginning to the end.
    pub const WIDTH: f64 = 1_100.0;

    /// Where this time is.
    pub fn x(self, at: Duration) -> f64 {
        Time::WIDTH * at.as_secs_f64() / self.end.as_secs_f64()
    }
}

/// Text in HTML or SVG.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // Not allowed in a page, whatever a node has answered.
            c if c.is_control() && !matches!(c, '\n' | '\t') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// A drawing with time from left to right, and room for words to the left of it and below.
pub struct Drawing {
    shapes: String,
    height: f64,
}

/// Room to the left.
pub const LEFT: f64 = 60.0;
/// Room below.
const BELOW: f64 = 24.0;

impl Drawing {
    /// A drawing so high.
    pub fn new(height: f64) -> Self {
        Drawing { shapes: String::new(), height }
    }

    /// A rectangle of a class, with words for whoever points at it.
    pub fn rectangle(&mut self, class: &str, (x, y): (f64, f64), (width, height): (f64, f64), words: &str) {
        let x = LEFT + x;
        let _ = writeln!(
            self.shapes,
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\">{}</rect>",
            title(words)
        );
    }

    /// A dot of a class, with words.
    pub fn dot(&mut self, class: &str, (x, y): (f64, f64), radius: f64, words: &str) {
        let x = LEFT + x;
        let _ = writeln!(
            self.shapes,
            "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\">{}</circle>",
            title(words)
        );
    }

    /// A line through these points.
    pub fn line(&mut self, class: &str, points: impl Iterator<Item = (f64, f64)>) {
        let points: Vec<_> = points.map(|(x, y)| format!("{:.1},{y:.1}", LEFT + x)).collect();
        let _ = writeln!(self.shapes, "<polyline class=\"{class}\" points=\"{}\"/>", points.join(" "));
    }

    /// Words to the left of this height.
    pub fn left(&mut self, y: f64, words: &str) {
        let x = LEFT - 6.0;
        let _ = writeln!(self.shapes, "<text class=\"left\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escaped(words));
    }

    /// Words that begin here.
    pub fn words(&mut self, class: &str, (x, y): (f64, f64), words: &str) {
        let x = LEFT + x;
        let _ = writeln!(self.shapes, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escaped(words));
    }

    /// Seconds, below everything.
    pub fn seconds(&mut self, time: Time) {
        let end = time.end.as_secs_f64();
        let step = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 3_600.0, 14_400.0];
        let step = step.into_iter().find(|step| end / step <= 15.0).unwrap_or(86_400.0);
        for number in 0..=(end / step) as u32 {
            let at = step * f64::from(number);
            let (x, y) = (LEFT + Time::WIDTH * at / end, self.height + 16.0);
            let words = if step < 1.0 { format!("{at:.1} s") } else { format!("{at:.0} s") };
            let _ = writeln!(
                self.shapes,
                "<line class=\"tick\" x1=\"{x:.1}\" y1=\"0\" x2=\"{x:.1}\" y2=\"{:.1}\"/>",
                self.height
            );
            let _ = writeln!(self.shapes, "<text class=\"below\" x=\"{x:.1}\" y=\"{y:.1}\">{words}</text>");
        }
    }

    /// The drawing as it stands in a page.
    pub fn svg(self, label: &str) -> String {
        format!("<div class=\"wide\">{}</div>\n", self.element(label, "", ""))
    }

    /// The drawing as a file of its own.
    pub fn file(self, label: &str, style: &str) -> String {
        self.element(label, " xmlns=\"http://www.w3.org/2000/svg\"", &format!("<style>\n{style}</style>\n"))
    }

    fn element(self, label: &str, attributes: &str, style: &str) -> String {
        let (width, height) = (LEFT + Time::WIDTH + 10.0, self.height + BELOW);
        format!(
            "<svg{attributes} role=\"img\" aria-label=\"{}\" width=\"{width}\" height=\"{height:.0}\" viewBox=\"0 0 {width} {height:.0}\">\n{style}{}</svg>",
            escaped(label),
            self.shapes
        )
    }
}

fn title(words: &str) -> String {
    match words {
        "" => String::new(),
        words => format!("<title>{}</title>", escaped(words)),
    }
}

#[cfg(test)]
pub mod tests {
    /// Fails unless every element that begins ends where it should.
    pub fn assert_well_formed(text: &str) {
        let mut open = Vec::new();
        let mut rest = text.strip_prefix("<!DOCTYPE html>").unwrap_or(text);
        while let Some(start) = rest.find('<') {
            let (text, tag) = rest.split_at(start);
            assert!(!text.contains('>') || open.last() == Some(&"style"), "a `>` outside of a tag: {text}");
            let end = tag.find('>').expect("the end of a tag");
            let (inside, after) = (&tag[1..end], &tag[end + 1..]);
            let name = inside.trim_start_matches('/').split([' ', '/']).next().unwrap_or_default();
            assert_eq!(inside.matches('"').count() % 2, 0, "{inside}");
            if inside.starts_with('/') {
                assert_eq!(open.pop(), Some(name));
            } else if !inside.ends_with('/') {
                open.push(name);
            }
            rest = after;
        }
        assert!(open.is_empty(), "{open:?}");
    }
}
