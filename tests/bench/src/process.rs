//! The programs under load: started on loopback, watched, ended by their own id, and by the kernel when the bench is
//! killed.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// A program under load.
pub(crate) struct Server {
    child: Child,
    name: &'static str,
    log: std::path::PathBuf,
}

/// What a program has used up.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Processor time, user and system.
    pub(crate) cpu: Duration,
    /// Resident memory in bytes.
    pub(crate) resident: u64,
    /// The most that was ever resident, in bytes.
    pub(crate) peak: u64,
}

impl Server {
    /// Starts it with standard output and error in a file. It ends with the thread that calls this.
    pub(crate) fn start(name: &'static str, command: &Command, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let file = File::create(&log)?;
        let mut command = leashed(command)?;
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self { child, name, log })
    }

    /// Waits until `ready` says so.
    pub(crate) fn wait(&mut self, mut ready: impl FnMut() -> bool) -> Result<()> {
        let begun = Instant::now();
        while !ready() {
            self.check()?;
            if begun.elapsed() > Duration::from_secs(120) {
                bail!("{} is not ready after 120 s: {}", self.name, self.tail());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Fails where it has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} ended with {status}: {}", self.name, self.tail()),
            None => Ok(()),
        }
    }

    /// The last lines that it wrote.
    pub(crate) fn tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines
            .get(lines.len().saturating_sub(8)..)
            .unwrap_or_default()
            .join("\n")
    }

    /// From /proc.
    pub(crate) fn usage(&self) -> Result<Usage> {
        let folder = format!("/proc/{}", self.child.id());
        let stat = fs::read_to_string(format!("{folder}/stat"))?;
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let field = |n: usize| fields.get(n).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
        // utime and stime, proc(5) fields 14 and 15, in hundredths of a second.
        let cpu = Duration::from_millis((field(11) + field(12)) * 10);
        let status = fs::read_to_string(format!("{folder}/status"))?;
        let bytes = |name: &str| {
            let kib = status.lines().find_map(|line| {
                let kib = line.strip_prefix(name)?.trim().strip_suffix(" kB")?;
                kib.parse::<u64>().ok()
            });
            kib.unwrap_or(0) * 1024
        };
        Ok(Usage {
            cpu,
            resident: bytes("VmRSS:"),
            peak: bytes("VmHWM:"),
        })
    }
}

/// The same program by way of [`become_leashed`], under the same id: what the kernel does to a process when its parent dies
/// can be set by that process alone.
fn leashed(command: &Command) -> Result<Command> {
    let mut leashed = Command::new(std::env::current_exe()?);
    leashed.args(["leash", "--parent", &std::process::id().to_string(), "--"]);
    leashed.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => leashed.env(name, value),
            None => leashed.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        leashed.current_dir(folder);
    }
    Ok(leashed)
}

/// Becomes a program that the kernel kills when this process's parent dies (prctl(2), PR_SET_PDEATHSIG: it is kept over an
/// exec).
pub(crate) fn become_leashed(parent: i32, command: &[OsString]) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // A parent that died before that sends no signal any more.
    if getppid().map(|pid| pid.as_raw_nonzero().get()) != Some(parent) {
        bail!("process {parent} has ended");
    }
    let (program, args) = command.split_first().context("no program")?;
    let error = Command::new(program).args(args).exec();
    Err(error).with_context(|| format!("cannot start {}", program.display()))
}

impl Drop for Server {
    fn drop(&mut self) {
        // By its own id, which is ours until it was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
