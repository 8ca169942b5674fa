//! Running a program to its end.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::error::{Error, last_lines};

/// Where programs of the system are: beyond `PATH`, since a user's often lacks the folders of the superuser.
const SYSTEM_FOLDERS: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

/// The search path given to every program that is started.
#[must_use]
pub(crate) fn search_path() -> String {
    let mut folders: Vec<String> = std::env::var("PATH")
        .unwrap_or_default()
        .split(':')
        .map(str::to_owned)
        .collect();
    folders.retain(|folder| !folder.is_empty());
    for folder in SYSTEM_FOLDERS {
        if !folders.iter().any(|known| known == folder) {
            folders.push(folder.to_owned());
        }
    }
    folders.join(":")
}

/// Looks a program up.
#[must_use]
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    search_path()
        .split(':')
        .map(|folder| Path::new(folder).join(program))
        .find(|path| path.is_file())
}

/// Runs a program and returns what it wrote to standard output.
///
/// # Errors
/// When it cannot be started, or ends with an error.
pub(crate) fn run<S: AsRef<OsStr>>(program: impl AsRef<OsStr>, args: &[S]) -> Result<String, Error> {
    let mut command = Command::new(program);
    command.args(args);
    run_command(&mut command, None)
}

/// Runs a prepared command, with `input` on its standard input.
///
/// # Errors
/// When it cannot be started, or ends with an error.
pub(crate) fn run_command(command: &mut Command, input: Option<&str>) -> Result<String, Error> {
    let output = output_of(command, input)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let written = [output.stderr.as_slice(), output.stdout.as_slice()].concat();
    Err(Error::Command {
        command: shown(command),
        status: output.status.to_string(),
        output: last_lines(&String::from_utf8_lossy(&written), 5),
    })
}

fn output_of(command: &mut Command, input: Option<&str>) -> Result<Output, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let launch = |source| Error::Launch {
        program: program.clone(),
        source,
    };
    command
        .env("PATH", search_path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.stdin(if input.is_some() {
        Stdio::piped()
    } else {
        Stdio::null()
    });
    let mut child = command.spawn().map_err(launch)?;
    let launch = |source| Error::Launch {
        program: program.clone(),
        source,
    };
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin.write_all(input.as_bytes()).map_err(launch)?;
    }
    let launch = |source| Error::Launch { program, source };
    child.wait_with_output().map_err(launch)
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_command_is_shown_with_the_end_of_what_it_wrote() {
        let error = run("sh", &["-c", "echo no luck >&2; exit 3"])
            .unwrap_err()
            .to_string();
        assert!(error.contains("exit status: 3"), "{error}");
        assert!(error.ends_with("no luck"), "{error}");
    }

    #[test]
    fn input_reaches_the_program() {
        assert_eq!(
            run_command(&mut Command::new("cat"), Some("hello")).unwrap(),
            "hello"
        );
    }
}
