//! The project's own images: static release programs, as a user without rights, with a bundle of certificate authorities.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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
        "build programs",
        |()| "static, release".to_owned(),
        || compile(repository, &target, progress),
    )?;
    let folder = target.join("images");
    fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
    let shown = |archives: &Vec<Archive>| {
        let shown = archives
            .iter()
            .map(|archive| format!("{} {}", archive.reference, megabytes(archive.size)));
        shown.collect::<Vec<_>>().join(", ")
    };
    step(progress, "write images", shown, || {
        let mut archives = Vec::new();
        for image in IMAGES {
            archives.push(write(image, "dev", &target, &folder)?);
        }
        for image in IMAGES.into_iter().filter(|image| image.name == "proxy") {
            archives.push(write(image, "dev2", &target, &folder)?);
        }
        Ok(archives)
    })
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
        .arg("--bins")
        .env("RUSTFLAGS", FLAGS)
        .env("CARGO_TARGET_DIR", target)
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    let launch = |source| Error::Launch {
        program: "cargo".into(),
        source,
    };
    let mut child = command.spawn().map_err(launch)?;
    let mut written = String::new();
    let mut crates = 0_u32;
    for line in child
        .stderr
        .take()
        .into_iter()
        .flat_map(|stderr| BufReader::new(stderr).lines())
        .map_while(Result::ok)
    {
        if let Some(name) = line.trim().strip_prefix("Compiling ") {
            crates += 1;
            progress.detail("build programs", &format!("crate {crates}: {name}"));
        }
        written += &line;
        written.push('\n');
    }
    if child.wait().map_err(launch)?.success() {
        return Ok(());
    }
    Err(Error::Command {
        command: "cargo build --release".into(),
        status: "the first error is what to read".into(),
        output: format!("\n{}", last_lines(&written, 40)),
    })
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
    fn sizes_are_shown_with_one_decimal() {
        assert_eq!(megabytes(8_512_345), "8.5 MB");
        assert_eq!(megabytes(17_000_000), "17.0 MB");
    }
}
