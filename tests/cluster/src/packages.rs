//! What comes from the machine's own distribution, installed by apt where it is missing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{run, run_command, which};
use crate::error::Error;
use crate::progress::{Progress, step};

/// A Debian package, and how its presence is seen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Package {
    name: &'static str,
    sign: Sign,
    /// Services that it would start with the machine.
    services: &'static [&'static str],
}

#[derive(Debug, Clone, Copy)]
enum Sign {
    Program(&'static str),
    /// Any of these programs.
    AnyProgram(&'static [&'static str]),
    /// Any of these files.
    File(&'static [&'static str]),
}

const fn program(name: &'static str, program: &'static str, services: &'static [&'static str]) -> Package {
    Package {
        name,
        sign: Sign::Program(program),
        services,
    }
}

const PLUGIN_FOLDERS: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];

/// What a cluster needs.
pub(crate) const CLUSTER: &[Package] = &[
    program("etcd-server", "etcd", &["etcd.service"]),
    program("containerd", "containerd", &["containerd.service"]),
    program("runc", "runc", &[]),
    Package {
        name: "containernetworking-plugins",
        sign: Sign::File(&["/usr/lib/cni/ptp", "/opt/cni/bin/ptp"]),
        services: &[],
    },
    program("iproute2", "ip", &[]),
    // What the plugin of host ports calls.
    program("iptables", "iptables", &[]),
    program("nftables", "nft", &["nftables.service"]),
    program("mount", "mount", &[]),
    program("util-linux", "nsenter", &[]),
];

/// What the images need.
pub(crate) const IMAGES: &[Package] = &[
    Package {
        name: "ca-certificates",
        sign: Sign::File(&["/etc/ssl/certs/ca-certificates.crt"]),
        services: &[],
    },
    program("gcc", "cc", &[]),
    Package {
        name: "libc6-dev",
        sign: Sign::File(&[
            "/usr/lib/x86_64-linux-gnu/libc.a",
            "/usr/lib64/libc.a",
            "/usr/lib/libc.a",
        ]),
        services: &[],
    },
];

/// What the proxy's own tests talk to.
const PROXY_TESTS: &[Package] = &[Package {
    name: "redis-server",
    sign: Sign::AnyProgram(&["valkey-server", "redis-server"]),
    services: &["redis-server.service"],
}];

/// Installs what `cargo test` needs beside cargo: a server of Redis' protocol. None of it is started.
///
/// # Errors
/// It is missing and cannot be installed.
pub fn ensure_for_unit_tests(progress: &dyn Progress) -> Result<(), Error> {
    ensure(PROXY_TESTS, progress)
}

/// What the end-to-end tests have proxies ask.
const END_TO_END_TESTS: &[Package] = &[program("freeradius", "freeradius", &["freeradius.service"])];

/// Installs what the end-to-end tests need beside a cluster: FreeRADIUS. It is not started.
///
/// # Errors
/// It is missing and cannot be installed.
pub fn ensure_for_end_to_end_tests(progress: &dyn Progress) -> Result<(), Error> {
    ensure(END_TO_END_TESTS, progress)
}

impl Package {
    fn is_there(&self) -> bool {
        match self.sign {
            Sign::Program(name) => which(name).is_some(),
            Sign::AnyProgram(names) => names.iter().any(|name| which(name).is_some()),
            Sign::File(paths) => paths.iter().any(|path| Path::new(path).exists()),
        }
    }
}

/// The folder of the container network plugins.
pub(crate) fn network_plugins() -> PathBuf {
    let folders = PLUGIN_FOLDERS.into_iter().map(PathBuf::from);
    folders
        .clone()
        .find(|folder| folder.join("ptp").exists())
        .or_else(|| folders.into_iter().next())
        .unwrap_or_default()
}

/// Installs what is missing, without starting any service of it, now or with the machine.
pub(crate) fn ensure(packages: &[Package], progress: &dyn Progress) -> Result<(), Error> {
    QuietServices::end_of_an_interrupted_run();
    let missing: Vec<&Package> = packages.iter().filter(|package| !package.is_there()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    let list = names.join(" ");
    let unable = |hint: String| Error::Packages {
        missing: list.clone(),
        hint,
    };
    if which("apt-get").is_none() {
        return Err(unable(
            "they are named as in Debian; install them with this system's package manager".into(),
        ));
    }
    if !rustix::process::geteuid().is_root() {
        return Err(unable(format!("install them with: sudo apt-get install {list}")));
    }
    step(
        progress,
        "install packages",
        |()| list.clone(),
        || {
            let _quiet = QuietServices::begin()?;
            progress.detail("install packages", &list);
            // An outdated list is no reason to stop: the installation says what is wrong, if anything is.
            drop(apt(&["update", "-q"]));
            let install = ["install", "-y", "-q", "--no-install-recommends"];
            let words: Vec<&str> = install.into_iter().chain(names.iter().copied()).collect();
            apt(&words).map_err(|error| unable(error.to_string()))?;
            for service in missing.iter().flat_map(|package| package.services) {
                // Also right where systemd does not run: it removes a link.
                drop(run("systemctl", &["disable", service]));
            }
            Ok(())
        },
    )?;
    let still: Vec<&str> = missing
        .iter()
        .filter(|package| !package.is_there())
        .map(|package| package.name)
        .collect();
    if still.is_empty() {
        return Ok(());
    }
    Err(Error::Packages {
        missing: still.join(" "),
        hint: "apt-get installed them, yet they are not there".into(),
    })
}

fn apt(words: &[&str]) -> Result<String, Error> {
    run_command(
        Command::new("apt-get")
            .args(words)
            .env("DEBIAN_FRONTEND", "noninteractive"),
        None,
    )
}

const POLICY: &str = "/usr/sbin/policy-rc.d";
const POLICY_ASIDE: &str = "/usr/sbin/policy-rc.d.radius-mfa";
/// 101: "action forbidden by policy" (invoke-rc.d's own interface).
const FORBID: &str = "#!/bin/sh\n# Made by radius-mfa-operator's `cargo xtask` while it installs packages; remove it if you see it later.\nexit 101\n";

/// While it lives, package scripts are told not to start services; then the machine's own policy is back.
struct QuietServices;

impl QuietServices {
    fn begin() -> Result<Self, Error> {
        let (policy, aside) = (Path::new(POLICY), Path::new(POLICY_ASIDE));
        // One that is aside already is from a run that was cut off: the true one.
        if policy.exists() && !aside.exists() {
            fs::rename(policy, aside).map_err(Error::file("move", policy))?;
        }
        let quiet = Self;
        fs::write(policy, FORBID).map_err(Error::file("write", policy))?;
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(policy, mode).map_err(Error::file("make executable", policy))?;
        Ok(quiet)
    }

    /// A run that was cut off in the middle left its policy behind.
    fn end_of_an_interrupted_run() {
        if fs::read_to_string(POLICY).is_ok_and(|policy| policy == FORBID) {
            drop(Self);
        }
    }
}

impl Drop for QuietServices {
    fn drop(&mut self) {
        if fs::rename(POLICY_ASIDE, POLICY).is_err() {
            // There was none before.
            _ = fs::remove_file(POLICY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_every_machine_has_is_there_and_an_invented_one_is_not() {
        assert!(program("coreutils", "ls", &[]).is_there());
        assert!(!program("nothing", "radius-mfa-no-such-program", &[]).is_there());
    }
}
