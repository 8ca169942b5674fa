//! Starting, stopping and awaiting single parts.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::command::which;
use crate::error::{Error, log_tail};
use crate::layout::{containerd_part, kubelet_part};
use crate::network::{API_PORT, node_name};
use crate::part::{Component, Plan};
use crate::process::{self, POLL, Process, Program};
use crate::tools::Tool;

/// How long a part may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(3);
/// A part that has ended is noticed at once; this is for a machine that is busy with something else.
const API_START: Duration = Duration::from_secs(180);

impl Cluster {
    /// Stops a part of the control plane, as a crash or an upgrade would; pods keep running.
    ///
    /// # Errors
    /// When its record cannot be removed.
    pub fn stop_component(&self, component: Component) -> Result<(), Error> {
        self.stop_part(component.name())
    }

    /// Starts a part of the control plane; does nothing where it runs. Returns when the API server answers, if it was
    /// the one, or etcd, that was started.
    ///
    /// # Errors
    /// When it does not start, or does not answer.
    pub fn start_component(&self, component: Component) -> Result<(), Error> {
        self.launch_component(component)?;
        match component {
            Component::Etcd | Component::ApiServer => self.wait_for_api_server(),
            _ => Ok(()),
        }
    }

    /// Stops and starts a part of the control plane.
    ///
    /// # Errors
    /// When it does not start again.
    pub fn restart_component(&self, component: Component) -> Result<(), Error> {
        self.stop_component(component)?;
        self.start_component(component)
    }

    /// Starts a part of the control plane without waiting; true where it did not run.
    pub(crate) fn launch_component(&self, component: Component) -> Result<bool, Error> {
        let plan = component.plan(&self.layout, self.network, &self.pki);
        self.launch(component.name(), plan, &self.layout.control_plane_group())
    }

    /// Starts a part that does not run; true where it did not.
    pub(crate) fn launch(&self, part: &str, plan: Plan, group: &Path) -> Result<bool, Error> {
        let record = self.layout.record(part);
        if Process::read(&record).is_some_and(|process| process.runs()) {
            return Ok(false);
        }
        for (path, content) in &plan.files {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder).map_err(Error::file("create", folder))?;
            }
            fs::write(path, content).map_err(Error::file("write", path))?;
        }
        process::launch(&Program {
            part: part.to_owned(),
            exe: program_file(plan.program)?,
            args: plan.args,
            netns: self.layout.netns(),
            cgroup: self.groups.door(group),
            log: self.layout.log(part),
            record,
        })?;
        Ok(true)
    }

    /// Stops a part and forgets it, so that nobody takes it for one that has crashed.
    pub(crate) fn stop_part(&self, part: &str) -> Result<(), Error> {
        let record = self.layout.record(part);
        process::stop(Process::read(&record).as_slice(), PATIENCE);
        forget(&record)
    }

    /// Forgets the parts that run no more: they are about to be started again.
    pub(crate) fn forget_ended_parts(&self) -> Result<(), Error> {
        let records = self
            .recorded_parts()
            .into_iter()
            .map(|part| self.layout.record(&part));
        let ended = |record: &PathBuf| Process::read(record).is_some_and(|process| !process.runs());
        records.filter(ended).try_for_each(|record| forget(&record))
    }

    /// Waits until the API server says that it is ready.
    pub(crate) fn wait_for_api_server(&self) -> Result<(), Error> {
        let address = SocketAddr::from((self.network.api(), API_PORT));
        self.wait(API_START, "kube-apiserver", || {
            TcpStream::connect_timeout(&address, Duration::from_millis(500)).is_ok()
                && self.kubectl(&["get", "--raw", "/readyz"]).is_ok()
        })
    }

    /// Looks at a condition until it holds, and fails at once when a part that should run has ended meanwhile.
    pub(crate) fn wait(
        &self,
        limit: Duration,
        what: &str,
        mut holds: impl FnMut() -> bool,
    ) -> Result<(), Error> {
        let begun = Instant::now();
        while !holds() {
            if let Some(error) = self.ended_part() {
                return Err(error);
            }
            if begun.elapsed() > limit {
                let log = self.layout.log(what);
                let log = if log.exists() { log } else { self.layout.logs() };
                let reason = format!("not ready after {} s", limit.as_secs());
                return Err(Error::Part {
                    part: what.to_owned(),
                    reason,
                    tail: log_tail(&log, 8),
                    log,
                });
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// A part that was started and runs no more.
    fn ended_part(&self) -> Option<Error> {
        let part = self
            .recorded_parts()
            .into_iter()
            .find(|part| Process::read(&self.layout.record(part)).is_some_and(|process| !process.runs()))?;
        let log = self.layout.log(&part);
        let tail = log_tail(&log, 8);
        Some(Error::Part {
            part,
            reason: "ended".into(),
            log,
            tail,
        })
    }

    /// The parts that should run: those with a record of the present start.
    fn recorded_parts(&self) -> Vec<String> {
        let parts = Component::ALL
            .map(|component| component.name().to_owned())
            .into_iter();
        let nodes = (1..=self.nodes).map(node_name);
        parts
            .chain(nodes.flat_map(|node| [containerd_part(&node), kubelet_part(&node)]))
            .collect()
    }
}

fn forget(record: &Path) -> Result<(), Error> {
    match fs::remove_file(record) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::file("remove", record)(error))
        }
        _ => Ok(()),
    }
}

/// The program's file: a pinned one, or one of the system's.
fn program_file(program: &str) -> Result<PathBuf, Error> {
    let pinned = Tool::CLUSTER
        .into_iter()
        .find(|tool| tool.name() == program)
        .map(Tool::path);
    pinned.or_else(|| which(program)).ok_or_else(|| Error::Packages {
        missing: program.to_owned(),
        hint: "it was there when the cluster was started; `cargo xtask cluster up` installs it again".into(),
    })
}
