//! A FreeRADIUS on this machine, which the pods reach by the machine's end of the cluster's network. It lets everybody in
//! who types `push`.

use std::fs::File;
use std::net::{IpAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command};

use e2e::until;

use crate::world::{PATIENCE, World, project};

/// This machine's address as the pods see it.
pub fn own_address(world: &World) -> IpAddr {
    let pods = world.pods(e2e::DuoProxy::NAME).unwrap();
    let pod = pods["items"][0]["status"]["podIP"].as_str().unwrap();
    // Nothing is sent: the system chooses the way, and by it the address.
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect((pod, 1812)).unwrap();
    socket.local_addr().unwrap().ip()
}

/// A running one; it ends when this goes, also when a test fails.
pub struct FreeRadius {
    pub address: IpAddr,
    pub port: u16,
    folder: PathBuf,
    process: Child,
}

impl FreeRadius {
    /// Starts one that shares a secret with whoever asks, and waits until it answers.
    pub fn start(address: IpAddr, port: u16, secret: &str) -> Self {
        let folder = project().join(format!("target/e2e/freeradius-{port}"));
        std::fs::create_dir_all(&folder).unwrap();
        let started = Self {
            process: launch(&folder, address, port, secret),
            address,
            port,
            folder,
        };
        started.wait();
        started
    }

    /// Starts it anew with another secret: the one of before is worth nothing from now on.
    pub fn restart(&mut self, secret: &str) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process = launch(&self.folder, self.address, self.port, secret);
        self.wait();
    }

    /// How often it said something since it was started.
    pub fn said(&self, words: &str) -> usize {
        let log = std::fs::read_to_string(self.folder.join("log")).unwrap();
        log.matches(words).count()
    }

    fn wait(&self) {
        until("FreeRADIUS to answer", PATIENCE, || {
            Ok(if self.said("Ready to process requests") > 0 {
                Ok(())
            } else {
                Err(std::fs::read_to_string(self.folder.join("log"))?)
            })
        })
        .unwrap();
    }
}

impl Drop for FreeRadius {
    fn drop(&mut self) {
        if let Err(error) = self.process.kill().and_then(|()| self.process.wait()) {
            eprintln!("FreeRADIUS goes on: {error}");
        }
    }
}

fn launch(folder: &PathBuf, address: IpAddr, port: u16, secret: &str) -> Child {
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    write("dictionary", "$INCLUDE /usr/share/freeradius/dictionary\n");
    write("users", "DEFAULT Cleartext-Password := \"push\"\n");
    let config = CONFIG
        .replace("FOLDER", &folder.display().to_string())
        .replace("ADDRESS", &address.to_string())
        .replace("PORT", &port.to_string())
        .replace("SECRET", secret);
    write("radiusd.conf", &config);
    let log = File::create(folder.join("log")).unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    Command::new("freeradius")
        .args(["-f", "-x", "-l", "stdout", "-n", "radiusd", "-d"])
        .arg(folder)
        .env("PATH", format!("{path}:/usr/sbin:/usr/local/sbin"))
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .expect("`cargo xtask e2e` installs FreeRADIUS where it can")
}

/// Everything below one folder; answers with Message-Authenticator, which older versions send when they are told to.
const CONFIG: &str = r#"
prefix = /usr
libdir = /usr/lib/freeradius
name = e2e
logdir = FOLDER
radacctdir = FOLDER
run_dir = FOLDER
pidfile = FOLDER/freeradius.pid
max_request_time = 5
security {
    max_attributes = 200
    reject_delay = 0
    status_server = yes
}
thread pool {
    start_servers = 1
    max_servers = 4
    min_spare_servers = 1
    max_spare_servers = 2
}
client pods {
    ipaddr = 10.0.0.0/8
    secret = "SECRET"
    require_message_authenticator = yes
}
modules {
    pap {
    }
    files {
        usersfile = FOLDER/users
    }
}
server e2e {
    listen {
        type = auth
        ipaddr = ADDRESS
        port = PORT
    }
    authorize {
        files
        pap
    }
    authenticate {
        Auth-Type PAP {
            pap
        }
    }
    post-auth {
        update reply {
            Message-Authenticator := 0x00
        }
        Post-Auth-Type REJECT {
            update reply {
                Message-Authenticator := 0x00
            }
        }
    }
}
"#;
