//! What can be wrong with a configuration, in words that say what to do.

use std::fmt;

/// The configuration file is not TOML of the documented shape. The text names line and column, never a secret: the
/// file holds none, only paths.
#[derive(Debug, thiserror::Error)]
#[error("the configuration file cannot be read: {0}")]
pub struct ParseError(#[from] pub(crate) toml::de::Error);

/// One thing that is wrong: where, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The place in the file, `clients[0].networks` for example.
    pub field: String,
    /// What is wrong with it and the bound it breaks, as the rest of a sentence.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// Everything that is wrong with a configuration, never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", list(.0))]
pub struct Problems(pub Vec<Problem>);

fn list(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(Problem::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}
