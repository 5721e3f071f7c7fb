//! What can be wrong with a configuration, in words for people.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why there is no usable configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Something in it is wrong: all that was found, in order of lines.
    #[error("{}", listed(.path, .mistakes))]
    Mistakes {
        /// The file, or `configuration` for one that was made by a program.
        path: PathBuf,
        /// What is wrong; never empty.
        mistakes: Vec<Mistake>,
    },
    /// A node would be reachable from other machines, and nothing protects it.
    #[error(
        "node {label} has Host {host}, which is not a loopback address: whoever reaches its ports could read and change \
         everything, for there is neither encryption nor authentication yet; use 127.0.0.1, ::1 or localhost, or, if \
         you trust the network and everybody on it, start with --insecure"
    )]
    Exposed {
        /// The node's label.
        label: String,
        /// Its `Host`.
        host: String,
    },
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The line, from 1, if it can be told.
    pub line: Option<usize>,
    /// The section, without brackets; empty when there is none.
    pub section: String,
    /// The key.
    pub key: Option<String>,
    /// The value found.
    pub value: Option<String>,
    /// What is wrong with it, and what is allowed.
    pub problem: String,
}

impl Mistake {
    /// A mistake of a section as a whole.
    pub(super) fn of_section(section: &str, problem: impl Into<String>) -> Mistake {
        Mistake { line: None, section: section.into(), key: None, value: None, problem: problem.into() }
    }

    /// A mistake of a key.
    pub(super) fn of_key(section: &str, key: &str, problem: impl Into<String>) -> Mistake {
        Mistake { key: Some(key.into()), ..Mistake::of_section(section, problem) }
    }

    /// A mistake of a key's value.
    pub(super) fn of_value(section: &str, key: &str, value: &str, problem: impl Into<String>) -> Mistake {
        Mistake { value: Some(value.into()), ..Mistake::of_key(section, key, problem) }
    }

    /// The same, with its line.
    pub(super) fn at(self, line: usize) -> Mistake {
        Mistake { line: Some(line), ..self }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.section.is_empty() {
            write!(f, "[{}]", self.section)?;
            if let Some(key) = &self.key {
                write!(f, " {key}")?;
            }
            if let Some(value) = &self.value {
                write!(f, " = {value}")?;
            }
            write!(f, ": ")?;
        }
        write!(f, "{}", self.problem)
    }
}

/// One mistake a line, as compilers do it: `file:line: what`.
fn listed(path: &std::path::Path, mistakes: &[Mistake]) -> String {
    let line = |mistake: &Mistake| match mistake.line {
        Some(line) => format!("{}:{line}: {mistake}", path.display()),
        None => format!("{}: {mistake}", path.display()),
    };
    mistakes.iter().map(line).collect::<Vec<_>>().join("\n")
}
