//! The few things that only Linux has. Elsewhere the crate compiles, so that `xtask` does, and says that it cannot.

use std::io;
use std::path::Path;

use crate::error::Error;

/// Checks that the cluster can run here at all.
///
/// # Errors
/// On another system than Linux, on another processor than x86-64, and for any user but root.
pub(crate) fn check() -> Result<(), Error> {
    if !cfg!(target_os = "linux") {
        return Err(Error::Unsupported("the local cluster needs Linux and root"));
    }
    if !cfg!(target_arch = "x86_64") {
        return Err(Error::Unsupported("the local cluster runs on x86-64 only"));
    }
    if !rustix::process::geteuid().is_root() {
        return Err(Error::Unsupported(
            "the local cluster needs Linux and root (for containerd), and this user is not root",
        ));
    }
    Ok(())
}

/// Sends a signal through a handle on the process that is taken before `is_the_one` looks at it: a number used again
/// meanwhile cannot be hit.
#[cfg(target_os = "linux")]
pub(crate) fn signal(pid: i32, signal: rustix::process::Signal, is_the_one: impl FnOnce() -> bool) {
    use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};
    let handle = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    if let Some(handle) = handle
        && is_the_one()
    {
        // An error means that it ended between the look and the signal: what was wanted.
        _ = pidfd_send_signal(handle, signal);
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn signal(_: i32, _: rustix::process::Signal, _: impl FnOnce() -> bool) {}

/// Unmounts, at once for everybody, in the background where it is still in use.
#[cfg(target_os = "linux")]
pub(crate) fn unmount(path: &Path) -> io::Result<()> {
    use rustix::mount::UnmountFlags;
    rustix::mount::unmount(path, UnmountFlags::DETACH).map_err(Into::into)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn unmount(_: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
