//! The cluster's control groups: a tree of its own in every hierarchy of the machine, whose mounts are left alone.
//!
//! `radius-mfa-operator/<cluster>/control-plane` holds etcd, API server and their kin; `…/<node>/runtime` a node's kubelet,
//! containerd and the shims it starts; `…/<node>/pods` is what that kubelet uses as its root. What is in the tree was
//! started by this cluster, whatever its name or parent, so the tree is how `down` and node loss find everything.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::error::Error;
use crate::process::wait_until;

/// The folder above all clusters.
pub(crate) const ROOT: &str = "radius-mfa-operator";

/// What a kubelet needs on a machine with one unified hierarchy.
const CONTROLLERS: [&str; 6] = ["cpuset", "cpu", "io", "memory", "pids", "hugetlb"];

/// Where the machine has its hierarchies mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchies {
    mounts: Vec<PathBuf>,
    unified: bool,
    /// A unified hierarchy beside those of version 1: nothing is made there, but runc does.
    beside: Vec<PathBuf>,
}

impl Hierarchies {
    /// Reads the machine's mounts.
    pub(crate) fn of_this_machine() -> Result<Self, Error> {
        let path = Path::new("/proc/mounts");
        let mounts = fs::read_to_string(path).map_err(Error::file("read", path))?;
        Self::parse(&mounts).ok_or(Error::Unsupported(
            "the local cluster needs control groups, and none are mounted",
        ))
    }

    /// Version 1 where any hierarchy with a controller is mounted; a unified one beside it (hybrid) has none then.
    fn parse(mounts: &str) -> Option<Self> {
        let of_type = |wanted: &str| -> Vec<PathBuf> {
            let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
            fields
                .filter(|fields| fields.get(2) == Some(&wanted))
                .filter_map(|fields| fields.get(1).map(PathBuf::from))
                .collect()
        };
        let (first, second) = (of_type("cgroup"), of_type("cgroup2"));
        if first.iter().any(|mount| mount.ends_with("memory")) {
            return Some(Self {
                mounts: first,
                unified: false,
                beside: second,
            });
        }
        let mount = second.into_iter().next()?;
        Some(Self {
            mounts: vec![mount],
            unified: true,
            beside: Vec::new(),
        })
    }

    /// The hierarchy in which processes are looked for: with a group for every one of them.
    fn tracking(&self) -> Option<&Path> {
        let pids = self.mounts.iter().find(|mount| mount.ends_with("pids"));
        pids.or(self.mounts.first()).map(PathBuf::as_path)
    }

    /// Makes a group (a path below [`ROOT`]) in every hierarchy.
    pub(crate) fn make(&self, group: &Path) -> Result<(), Error> {
        for mount in &self.mounts {
            let mut folder = mount.clone();
            for part in Path::new(ROOT).join(group).components() {
                self.pass_controllers_on(&folder);
                let parent = folder.clone();
                folder.push(part);
                make_folder(&folder)?;
                inherit_cpuset(&parent, &folder);
            }
        }
        Ok(())
    }

    /// On a unified hierarchy a group has the controllers that its parent passes on. One that the kernel lacks is the
    /// kubelet's to complain about.
    fn pass_controllers_on(&self, folder: &Path) {
        if self.unified {
            for controller in CONTROLLERS {
                _ = fs::write(folder.join("cgroup.subtree_control"), format!("+{controller}"));
            }
        }
    }

    /// The file through which a process is moved into a group.
    pub(crate) fn door(&self, group: &Path) -> PathBuf {
        self.tracking_folder(group).join("cgroup.procs")
    }

    fn tracking_folder(&self, group: &Path) -> PathBuf {
        self.tracking()
            .unwrap_or(Path::new("/nonexistent"))
            .join(ROOT)
            .join(group)
    }

    /// Every process in a group and below it.
    pub(crate) fn members(&self, group: &Path) -> Vec<i32> {
        let mut found = Vec::new();
        collect_members(&self.tracking_folder(group), &mut found);
        found
    }

    /// Ends every process in a group and below it by force, until there is none. Returns those that remain.
    pub(crate) fn kill(&self, group: &Path) -> Vec<i32> {
        wait_until(Duration::from_secs(10), || {
            let members = self.members(group);
            for pid in members.iter().copied().filter_map(Pid::from_raw) {
                _ = kill_process(pid, Signal::KILL);
            }
            members.is_empty()
        });
        self.members(group)
    }

    /// Removes a group and everything below it from every hierarchy, and [`ROOT`] with the last. Returns what stays.
    pub(crate) fn remove(&self, group: &Path) -> Vec<PathBuf> {
        let mut stays = Vec::new();
        for mount in self.mounts.iter().chain(&self.beside) {
            let folder = mount.join(ROOT).join(group);
            // The kernel lets go of a group a moment after its last process.
            if !wait_until(Duration::from_secs(5), || remove_tree(&folder).is_ok()) {
                stays.push(folder);
            }
            // Fails while another cluster is in there, as it should.
            _ = fs::remove_dir(mount.join(ROOT));
        }
        stays
    }
}

fn make_folder(folder: &Path) -> Result<(), Error> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(Error::file("make control group", folder)(error))
        }
        _ => Ok(()),
    }
}

/// Version 1: a new cpuset group has no processor and no memory node, and refuses every process until it has.
fn inherit_cpuset(parent: &Path, folder: &Path) {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = fs::read_to_string(folder.join(file));
        if own.is_ok_and(|own| own.trim().is_empty())
            && let Ok(inherited) = fs::read_to_string(parent.join(file))
        {
            _ = fs::write(folder.join(file), inherited.trim());
        }
    }
}

fn collect_members(folder: &Path, found: &mut Vec<i32>) {
    let procs = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    found.extend(procs.lines().filter_map(|line| line.parse::<i32>().ok()));
    for child in child_groups(folder) {
        collect_members(&child, found);
    }
}

fn remove_tree(folder: &Path) -> io::Result<()> {
    for child in child_groups(folder) {
        remove_tree(&child)?;
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn child_groups(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_mounts_count_as_version_one() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n\
            cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let found = Hierarchies::parse(mounts).unwrap();
        assert!(!found.unified);
        assert_eq!(found.mounts.len(), 2);
        let door = found.door(Path::new("demo/control-plane"));
        assert_eq!(
            door,
            Path::new("/sys/fs/cgroup/pids/radius-mfa-operator/demo/control-plane/cgroup.procs")
        );
    }

    #[test]
    fn a_single_unified_mount_is_found() {
        let found = Hierarchies::parse("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n").unwrap();
        assert!(found.unified);
        assert_eq!(found.tracking(), Some(Path::new("/sys/fs/cgroup")));
    }

    #[test]
    fn a_machine_without_control_groups_is_told_apart() {
        assert_eq!(Hierarchies::parse("proc /proc proc rw 0 0\n"), None);
    }
}
