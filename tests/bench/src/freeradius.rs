//! FreeRADIUS with a static user file: the peer to compare with.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::request::SECRET;

/// Finds the program, installing Debian's package when it is missing.
pub(crate) fn program() -> Result<PathBuf> {
    let path = PathBuf::from("/usr/sbin/freeradius");
    if !path.exists() {
        eprintln!("installing the package freeradius (its service is not started)");
        let status = Command::new("apt-get")
            .args(["install", "-y", "-q", "--no-install-recommends", "freeradius"])
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("RUNLEVEL", "1")
            .stdout(std::process::Stdio::null())
            .status()?;
        if !status.success() || !path.exists() {
            bail!(
                "freeradius is not there and cannot be installed; `apt-get install freeradius` and try again"
            );
        }
    }
    Ok(path)
}

/// Writes a configuration with so many users, all with the password 123456, listening on loopback.
pub(crate) fn configure(folder: &Path, port: u16, users: usize) -> Result<()> {
    fs::create_dir_all(folder)?;
    let secret = String::from_utf8_lossy(SECRET);
    let here = folder.display();
    fs::write(
        folder.join("radiusd.conf"),
        format!(
            r#"
prefix = /usr
libdir = /usr/lib/freeradius
dictionary_dir = /usr/share/freeradius
run_dir = {here}
max_requests = 65536
log {{
    destination = files
    file = {here}/radius.log
    auth = yes
}}
security {{
    allow_core_dumps = no
    status_server = no
}}
thread pool {{
    start_servers = 2
    max_servers = 2
    min_spare_servers = 1
    max_spare_servers = 2
    max_queue_size = 65536
    cleanup_delay = 5
}}
client bench {{
    ipaddr = 127.0.0.1
    secret = "{secret}"
    require_message_authenticator = yes
}}
modules {{
    pap {{
    }}
    files {{
        filename = {here}/users
    }}
}}
server default {{
    listen {{
        type = auth
        ipaddr = 127.0.0.1
        port = {port}
    }}
    authorize {{
        files
        pap
    }}
    authenticate {{
        Auth-Type PAP {{
            pap
        }}
    }}
}}
"#
        ),
    )?;
    let mut file = String::with_capacity(users * 48);
    for user in 0..users {
        let _ = writeln!(file, "user{user} Cleartext-Password := \"123456\"");
    }
    Ok(fs::write(folder.join("users"), file)?)
}
