//! The cluster's processes: started apart from this one, known again later, and never mistaken for another's.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::command::{search_path, which};
use crate::error::Error;
use crate::sys;

/// How often a condition is looked at again.
pub(crate) const POLL: Duration = Duration::from_millis(25);

/// What to start.
#[derive(Debug)]
pub(crate) struct Program {
    /// The part's name: the name of its log and of its record.
    pub(crate) part: String,
    /// The program file.
    pub(crate) exe: PathBuf,
    /// Its arguments.
    pub(crate) args: Vec<String>,
    /// The network namespace to run in.
    pub(crate) netns: PathBuf,
    /// The `cgroup.procs` file of the control group to run in.
    pub(crate) cgroup: PathBuf,
    /// Where standard output and error go; what an earlier run wrote is kept beside it as `.old`.
    pub(crate) log: PathBuf,
    /// Where to note the process down.
    pub(crate) record: PathBuf,
}

/// A process, by number and start time: the pair names no other process until the machine is started again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pid: i32,
    started: u64,
    exe: PathBuf,
}

/// Starts a program in a session of its own, so that neither Ctrl-C nor the end of this process ends it.
///
/// The record is written after the start: were this process to end between the two, the control group would still hold
/// the process, and `down` ends whatever is in there.
pub(crate) fn launch(program: &Program) -> Result<Process, Error> {
    let log = open_log(&program.log)?;
    let again = log.try_clone().map_err(Error::file("open", &program.log))?;
    let launcher = which("setsid").unwrap_or_else(|| "setsid".into());
    // setsid, nsenter and the program replace one another in one process: its number stays.
    let mut command = Command::new(launcher);
    command
        .arg("nsenter")
        .arg(format!("--net={}", program.netns.display()))
        .arg("--")
        .arg(&program.exe)
        .args(&program.args)
        .env("PATH", search_path())
        .env_remove("KUBECONFIG")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(again);
    let child = command.spawn().map_err(|source| Error::Launch {
        program: program.part.clone(),
        source,
    })?;
    let pid = child.id();
    fs::write(&program.cgroup, pid.to_string())
        .map_err(Error::file("move a process into", &program.cgroup))?;
    let started = Stat::read(pid.cast_signed()).map_or(0, |stat| stat.started);
    let process = Process {
        pid: pid.cast_signed(),
        started,
        exe: program.exe.clone(),
    };
    reap_when_done(child);
    process.write(&program.record)?;
    Ok(process)
}

/// A long-lived caller (a test) would otherwise collect zombies of the parts that it stops.
fn reap_when_done(mut child: std::process::Child) {
    std::thread::spawn(move || drop(child.wait()));
}

fn open_log(log: &Path) -> Result<File, Error> {
    if log.exists() {
        let old = log.with_extension("log.old");
        fs::rename(log, &old).map_err(Error::file("rename", log))?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .map_err(Error::file("create", log))
}

impl Process {
    /// Reads a record; none where the part was never started.
    pub(crate) fn read(record: &Path) -> Option<Self> {
        let text = fs::read_to_string(record).ok()?;
        let mut words = text.trim().splitn(3, ' ');
        let pid = words.next()?.parse().ok()?;
        let started = words.next()?.parse().ok()?;
        Some(Self {
            pid,
            started,
            exe: words.next()?.into(),
        })
    }

    fn write(&self, record: &Path) -> Result<(), Error> {
        let line = format!("{} {} {}\n", self.pid, self.started, self.exe.display());
        let new = record.with_extension("new");
        fs::write(&new, line).map_err(Error::file("write", &new))?;
        fs::rename(&new, record).map_err(Error::file("write", record))
    }

    /// The process number.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it runs: the same process, and not merely waiting to be reaped (process 1 may take its time).
    pub(crate) fn runs(&self) -> bool {
        Stat::read(self.pid).is_some_and(|stat| stat.started == self.started && !stat.ended())
            && self.runs_its_program()
    }

    /// What is executed is the part's program, or one of the launchers on the way there.
    fn runs_its_program(&self) -> bool {
        let Ok(exe) = fs::read_link(format!("/proc/{}/exe", self.pid)) else {
            return false;
        };
        let shown = exe.to_string_lossy();
        let name = Path::new(shown.trim_end_matches(" (deleted)")).file_name();
        let launchers = ["setsid", "nsenter"];
        // A program may be a link to another file (alternatives), so its resolved name counts too.
        let resolved = fs::canonicalize(&self.exe).ok();
        name.is_some()
            && (name == self.exe.file_name()
                || name == resolved.as_deref().and_then(Path::file_name)
                || launchers.iter().any(|launcher| name == Some(launcher.as_ref())))
    }

    /// Sends a signal, if it still runs.
    pub(crate) fn signal(&self, signal: Signal) {
        sys::signal(self.pid, signal, || self.runs());
    }

    /// Resident memory in bytes, shared pages counted in proportion; none where the process is gone.
    pub(crate) fn memory(&self) -> Option<u64> {
        proportional_memory(self.pid)
    }

    /// When it was started, in clock ticks since the machine was.
    pub(crate) fn age(&self) -> Option<Duration> {
        let uptime = fs::read_to_string("/proc/uptime").ok()?;
        let uptime: f64 = uptime.split(' ').next()?.parse().ok()?;
        // USER_HZ is 100 on every Linux that Kubernetes runs on.
        let started = Duration::from_millis(self.started.checked_mul(10)?);
        Duration::try_from_secs_f64(uptime).ok()?.checked_sub(started)
    }
}

/// Asks the processes to end, and ends by force those that have not after `patience`.
pub(crate) fn stop(processes: &[Process], patience: Duration) {
    for process in processes {
        process.signal(Signal::TERM);
    }
    wait_until(patience, || !processes.iter().any(Process::runs));
    for process in processes {
        process.signal(Signal::KILL);
    }
    wait_until(Duration::from_secs(5), || !processes.iter().any(Process::runs));
}

/// Looks at a condition until it holds or the time is over; returns whether it held.
pub(crate) fn wait_until(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    loop {
        if holds() {
            return true;
        }
        if begun.elapsed() >= limit {
            return false;
        }
        std::thread::sleep(POLL);
    }
}

/// Proportional set size of any process, in bytes.
pub(crate) fn proportional_memory(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The two fields of `/proc/PID/stat` that are needed.
struct Stat {
    state: char,
    started: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// proc(5): the second field is the program's name in brackets and may itself hold brackets and spaces.
    fn parse(line: &str) -> Option<Self> {
        let (_, rest) = line.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        // Field 22; the state is field 3.
        let started = fields.nth(18)?.parse().ok()?;
        Some(Self { state, started })
    }

    fn ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_brackets_does_not_move_the_fields() {
        let line = "7 (a) b) (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.state, stat.started), ('S', 4711));
    }

    #[test]
    fn a_process_is_known_again_by_its_record_and_another_start_time_is_another_process() {
        let folder = tempfile::tempdir().unwrap();
        let record = folder.path().join("record");
        let pid = std::process::id().cast_signed();
        let started = Stat::read(pid).unwrap().started;
        let own = Process {
            pid,
            started,
            exe: std::env::current_exe().unwrap(),
        };
        own.write(&record).unwrap();
        let read = Process::read(&record).unwrap();
        assert_eq!(read, own);
        assert!(read.runs());
        let other = Process {
            started: started + 1,
            ..own.clone()
        };
        assert!(!other.runs());
        let other = Process {
            exe: "/usr/bin/other".into(),
            ..own
        };
        assert!(!other.runs());
    }

    #[test]
    fn a_part_that_was_never_started_has_no_process() {
        assert_eq!(Process::read(Path::new("/nonexistent/record")), None);
    }
}
