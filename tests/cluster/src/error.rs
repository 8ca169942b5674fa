//! What can go wrong, named after what was being done.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A failed step of the local cluster, its tools or its images.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine cannot run the cluster at all.
    #[error("{0}; with a cluster of your own use `make demo CLUSTER=current`")]
    Unsupported(&'static str),
    /// The name of a cluster is not one to build folders and links from.
    #[error("{0:?} is no name for a cluster: 1 to 12 of a-z, 0-9 and -, beginning with a letter")]
    Name(String),
    /// More nodes than can be.
    #[error("{0} nodes cannot be made: {1} are the most")]
    NodeCount(u8, u8),
    /// No such node in this cluster.
    #[error("the cluster has no node {0:?}")]
    NoSuchNode(String),
    /// No cluster of that name runs.
    #[error("no cluster {0:?} is up: `cargo xtask cluster up --name {0}` starts one")]
    NotUp(String),
    /// The cluster was started by another version of its programs.
    #[error(
        "cluster {name:?} was started with {running}, and {wanted} is pinned now: `cargo xtask cluster down --name {name}` first"
    )]
    OtherVersion {
        /// The cluster.
        name: String,
        /// The versions it was started with.
        running: String,
        /// The versions pinned now.
        wanted: String,
    },
    /// Every network that a cluster could take is in use.
    #[error(
        "no free network for another cluster: 10.88.0.0/16 to 10.95.0.0/16 are all taken by clusters or routes"
    )]
    NoFreeNetwork,
    /// A program that Debian packages, and that apt could not install.
    #[error("missing on this machine: {missing}. {hint}")]
    Packages {
        /// Packages, separated by spaces.
        missing: String,
        /// What to do.
        hint: String,
    },
    /// A program could not be started.
    #[error("cannot start {program}: {source}")]
    Launch {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// A program ended with an error.
    #[error("`{command}` failed ({status}): {output}")]
    Command {
        /// The program and its arguments.
        command: String,
        /// Its exit status.
        status: String,
        /// The end of what it wrote.
        output: String,
    },
    /// A file or folder could not be worked on.
    #[error("cannot {verb} {}: {source}", path.display())]
    File {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file holds what cannot be understood.
    #[error("cannot read {} as {what}: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
        /// Why it is not.
        reason: String,
    },
    /// A certificate or key could not be made.
    #[error("cannot make the certificate for {subject}: {source}")]
    Certificate {
        /// Whose.
        subject: String,
        /// Why.
        source: rcgen::Error,
    },
    /// A part of the cluster ended or did not become ready.
    #[error("{part} {reason}; its log is {}{}", log.display(), Tail(tail))]
    Part {
        /// Which part.
        part: String,
        /// What happened.
        reason: String,
        /// Its log file.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// Building the pinned programs failed.
    #[error("building {what} failed ({status}); the log is {}{}", log.display(), Tail(tail))]
    Build {
        /// What was built.
        what: String,
        /// How the compiler ended.
        status: String,
        /// The log file.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// Something stays behind after `down`.
    #[error("could not remove:{}", Lines(.0))]
    Leftovers(Vec<String>),
}

impl Error {
    /// Wraps an I/O error with what was tried on which path.
    pub(crate) fn file(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { verb, path, source }
    }
}

/// The last lines of a log, set apart and indented; nothing where there are none.
struct Tail<'a>(&'a str);

impl fmt::Display for Tail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        f.write_str(" and ends with:")?;
        self.0.lines().try_for_each(|line| write!(f, "\n    {line}"))
    }
}

/// One line each, indented.
struct Lines<'a>(&'a [String]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|line| write!(f, "\n    {line}"))
    }
}

/// The last `lines` lines of a log file, or nothing where it cannot be read.
pub(crate) fn log_tail(log: &Path, lines: usize) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    last_lines(&text, lines)
}

/// The last `lines` lines that hold anything, each cut at 300 characters.
pub(crate) fn last_lines(text: &str, lines: usize) -> String {
    let mut tail: Vec<String> = text
        .lines()
        .rev()
        .filter(|line| !line.trim().is_empty())
        .take(lines)
        .map(|line| line.chars().take(300).collect())
        .collect();
    tail.reverse();
    tail.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_part_names_its_log_and_shows_the_end_of_it() {
        let error = Error::Part {
            part: "etcd".into(),
            reason: "ended".into(),
            log: "/x/etcd.log".into(),
            tail: last_lines("one\n\ntwo\nthree\n", 2),
        };
        assert_eq!(
            error.to_string(),
            "etcd ended; its log is /x/etcd.log and ends with:\n    two\n    three"
        );
    }
}
