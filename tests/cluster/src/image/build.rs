//! The project's own images: static release programs, as a user without rights, with a bundle of certificate authorities.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use super::oci::{Archive, File, Image};
use crate::error::{Error, last_lines};
use crate::packages;
use crate::progress::{Progress, step};

/// The user and group of all images: "nonroot" by the convention of minimal images.
const USER: u32 = 65532;
/// What the images' programs are built for.
pub const TARGET: &str = "x86_64-unknown-linux-gnu";
/// How: static, since there is nothing else in the image.
pub const FLAGS: &str = "-C target-feature=+crt-static";
/// The step that takes minutes.
const BUILD: &str = "build programs";
const AUTHORITIES: &str = "etc/ssl/certs/ca-certificates.crt";

/// An image of this project.
#[derive(Debug, Clone, Copy)]
pub struct ProjectImage {
    /// The last part of its name: `radius-mfa.local/<name>`.
    pub name: &'static str,
    /// The package that holds the program.
    pub package: &'static str,
    /// The program.
    pub program: &'static str,
}

/// All images of this project.
pub const IMAGES: [ProjectImage; 3] = [
    ProjectImage {
        name: "operator",
        package: "radius-mfa-operator",
        program: "radius-mfa-operator",
    },
    ProjectImage {
        name: "proxy",
        package: "radius-proxy",
        program: "radius-proxy",
    },
    ProjectImage {
        name: "simulators",
        package: "simulators",
        program: "simulators",
    },
];

/// Builds the programs in one run of cargo and writes their images as archives to `target/images` of the repository.
///
/// Tagged `:dev`. The proxy is there a second time as `:dev2`, with the same files and another label, so with another
/// digest: what an upgrade goes to in demo and tests.
///
/// # Errors
/// When the build fails, or the machine lacks what static programs are linked with.
pub fn build(repository: &Path, progress: &dyn Progress) -> Result<Vec<Archive>, Error> {
    packages::ensure(packages::IMAGES, progress)?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository.join("target"), PathBuf::from);
    step(
        progress,
        BUILD,
        |()| "static, release".to_owned(),
        || compile(repository, &target, progress),
    )?;
    let folder = target.join("images");
    fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
    let again = IMAGES.into_iter().filter(|image| image.name == "proxy");
    let wanted = IMAGES
        .map(|image| (image, "dev"))
        .into_iter()
        .chain(again.map(|image| (image, "dev2")));
    let mut archives = Vec::new();
    for (image, tag) in wanted {
        let shown = |archive: &Archive| format!("{} {}", archive.reference, megabytes(archive.size));
        archives.push(step(
            progress,
            &format!("image {}:{tag}", image.name),
            shown,
            || write(image, tag, &target, &folder),
        )?);
    }
    Ok(archives)
}

/// A size for people.
#[must_use]
pub(crate) fn megabytes(bytes: u64) -> String {
    let tenths = bytes / 100_000;
    format!("{}.{} MB", tenths / 10, tenths % 10)
}

fn compile(repository: &Path, target: &Path, progress: &dyn Progress) -> Result<(), Error> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args(["build", "--release", "--target", TARGET])
        .current_dir(repository);
    for image in IMAGES {
        command.args(["--package", image.package]);
    }
    command
        .args(["--bins", "--message-format=json-render-diagnostics"])
        .env("RUSTFLAGS", FLAGS)
        .env("CARGO_TARGET_DIR", target)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let total = crates_of(repository);
    let launch = |source| Error::Launch {
        program: "cargo".into(),
        source,
    };
    let mut child = command.spawn().map_err(launch)?;
    let lines = |from: Option<Box<dyn Read + Send>>| {
        let lines = from.into_iter().map(BufReader::new).flat_map(BufRead::lines);
        lines.map_while(Result::ok)
    };
    let stdout = child
        .stdout
        .take()
        .map(|out| Box::new(out) as Box<dyn Read + Send>);
    let stderr = child
        .stderr
        .take()
        .map(|err| Box::new(err) as Box<dyn Read + Send>);
    let counted = Counted::new(total);
    let mut written = String::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for line in lines(stdout) {
                if counted.finished(&line) {
                    progress.detail(BUILD, &counted.words());
                }
            }
        });
        for line in lines(stderr) {
            if let Some(name) = line.trim().strip_prefix("Compiling ") {
                counted.begun(name);
                progress.detail(BUILD, &counted.words());
            }
            written += &line;
            written.push('\n');
        }
    });
    if child.wait().map_err(launch)?.success() {
        return Ok(());
    }
    Err(Error::Command {
        command: "cargo build --release".into(),
        status: "the first error is what to read".into(),
        output: format!("\n{}", last_lines(&written, 40)),
    })
}

/// How many crates the programs are made of; `None` when cargo cannot say.
fn crates_of(repository: &Path) -> Option<usize> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args(["tree", "--locked", "--target", TARGET, "--edges", "normal,build"])
        .args(["--prefix", "none", "--format", "{p}"])
        .current_dir(repository)
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    for image in IMAGES {
        command.args(["--package", image.package]);
    }
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(crates_in(&String::from_utf8_lossy(&output.stdout)))
}

/// Different crates in what `cargo tree` prints: name and version are the first two words of a line.
fn crates_in(tree: &str) -> usize {
    let name_and_version = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.to_owned()))
    };
    tree.lines()
        .filter_map(name_and_version)
        .collect::<BTreeSet<_>>()
        .len()
}

/// How far a build has come.
struct Counted {
    total: Option<usize>,
    finished: Mutex<BTreeSet<String>>,
    begun: Mutex<String>,
}

impl Counted {
    fn new(total: Option<usize>) -> Self {
        Self {
            total,
            finished: Mutex::default(),
            begun: Mutex::default(),
        }
    }

    /// A line of cargo's JSON: true when it says that one more crate is there, built now or before.
    fn finished(&self, line: &str) -> bool {
        let message: Value = serde_json::from_str(line).unwrap_or_default();
        let text = |key| message.get(key).and_then(Value::as_str);
        match text("package_id").filter(|_| text("reason") == Some("compiler-artifact")) {
            Some(package) => lock(&self.finished).insert(package.to_owned()),
            None => false,
        }
    }

    /// A crate is being compiled.
    fn begun(&self, name: &str) {
        // Without the path of one of the project's own.
        let name: Vec<&str> = name.split_whitespace().take(2).collect();
        *lock(&self.begun) = name.join(" ");
    }

    fn words(&self) -> String {
        let (done, begun) = (lock(&self.finished).len(), lock(&self.begun));
        let of = self
            .total
            .map_or_else(String::new, |total| format!(" of {}", total.max(done)));
        let gap = if begun.is_empty() { "" } else { ", " };
        format!("{done}{of} crates{gap}{begun}")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write(image: ProjectImage, tag: &str, target: &Path, folder: &Path) -> Result<Archive, Error> {
    let program = target.join(TARGET).join("release").join(image.program);
    let authorities = Path::new("/").join(AUTHORITIES);
    let read = |path: &Path| fs::read(path).map_err(Error::file("read", path));
    let whole = Image {
        reference: format!("radius-mfa.local/{}:{tag}", image.name),
        entrypoint: format!("/{}", image.program),
        user: USER,
        labels: vec![("radius-mfa.dev/build".into(), tag.into())],
        files: vec![
            File {
                path: AUTHORITIES.into(),
                mode: 0o644,
                content: read(&authorities)?,
            },
            File {
                path: image.program.into(),
                mode: 0o755,
                content: read(&program)?,
            },
        ],
    };
    whole.write(&folder.join(format!("{}-{tag}.tar", image.name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_tells_how_many_crates_of_how_many_are_there() {
        let tree = "simulators v0.1.0 (/work/tests/simulators)\nserde v1.0.1\nserde_derive v1.0.1 (proc-macro)\n\
                    serde v1.0.1 (*)\n\nbytes v1.2.3\n";
        assert_eq!(crates_in(tree), 4);
        let counted = Counted::new(Some(4));
        let artifact =
            |id: &str| format!(r#"{{"reason":"compiler-artifact","package_id":"{id}","fresh":true}}"#);
        assert!(counted.finished(&artifact("a")));
        assert!(
            !counted.finished(&artifact("a")),
            "a build script and its crate are one"
        );
        assert!(!counted.finished(r#"{"reason":"build-script-executed","package_id":"b"}"#));
        assert!(!counted.finished("no JSON"));
        counted.begun("simulators v0.1.0 (/work/tests/simulators)");
        assert_eq!(counted.words(), "1 of 4 crates, simulators v0.1.0");
    }

    #[test]
    fn sizes_are_shown_with_one_decimal() {
        assert_eq!(megabytes(8_512_345), "8.5 MB");
        assert_eq!(megabytes(17_000_000), "17.0 MB");
    }
}
