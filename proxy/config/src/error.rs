//! What can be wrong with a configuration, in words that say what to do.

use std::fmt;

/// The configuration file is not TOML of the documented shape. The text names line and column and never repeats the
/// line itself: somebody may have written into it what does not belong there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the configuration file cannot be read: {place}{message}")]
pub struct ParseError {
    place: String,
    message: String,
}

impl ParseError {
    /// Whether the parser's own words are about the number of providers. Another mistake that comes before, such as a
    /// misspelt table, says more.
    pub(crate) fn is_about_the_number_of_providers(&self) -> bool {
        ["missing field `provider`", "exactly 1 element"]
            .iter()
            .any(|words| self.message.contains(words))
    }

    pub(crate) const fn without_place(message: String) -> Self {
        Self {
            place: String::new(),
            message,
        }
    }

    pub(crate) fn new(text: &str, error: &toml::de::Error) -> Self {
        let before = error.span().and_then(|span| text.get(..span.start));
        Self {
            place: before.map_or_else(String::new, |before| {
                let line = before.matches('\n').count() + 1;
                let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
                format!("line {line}, column {column}: ")
            }),
            // The parser names Rust's types.
            message: error
                .message()
                .replace("expected u32", "expected a whole number, 0 or more")
                .replace("expected u16", "expected a whole number from 0 to 65535"),
        }
    }
}

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
