//! `radius-proxy check`: everything that `serve` would need, without serving.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use proxy_config::RecordSink;

use crate::error::Error;
use crate::load::{Loaded, Source};
use crate::metrics::ProviderMetrics;
use crate::provider::{self, Finding, Shared};
use crate::udp::Sockets;

/// Checks the configuration at `path` and reaches its provider (unless `offline`). What is right goes to standard
/// output, each problem to one line of standard error.
///
/// # Errors
/// The number of problems, after they were printed.
pub fn check(path: PathBuf, offline: bool) -> Result<(), Error> {
    let findings = findings(path, offline)?;
    let (mut problems, mut out) = (0, std::io::stdout().lock());
    for finding in findings {
        match finding {
            Finding::Good(text) => writeln!(out, "ok: {text}").map_err(Error::Write)?,
            Finding::Note(text) => writeln!(out, "note: {text}").map_err(Error::Write)?,
            Finding::Problem(text) => {
                problems += 1;
                eprintln!("problem: {text}");
            }
        }
    }
    if problems == 0 {
        Ok(())
    } else {
        Err(Error::Findings(problems))
    }
}

fn findings(path: PathBuf, offline: bool) -> Result<Vec<Finding>, Error> {
    let mut source = Source::new(path)?;
    let loaded = match source.load() {
        Ok(loaded) => loaded,
        Err(Error::CheckConfig(problems)) => {
            return Ok(problems
                .0
                .iter()
                .map(|p| Finding::Problem(p.to_string()))
                .collect());
        }
        Err(error) => return Ok(vec![Finding::Problem(error.to_string())]),
    };
    let mut findings = vec![Finding::Good(format!(
        "configuration: clients {}, provider {}",
        loaded.config.clients.len(),
        loaded.config.provider.name()
    ))];
    findings.extend(places(&loaded));
    findings.extend(records(&loaded.records));
    let shared = Shared::new(ProviderMetrics::default());
    match provider::build(&loaded.config, &shared) {
        Err(error) => findings.push(Finding::Problem(error.to_string())),
        Ok(_) if offline => {}
        Ok(provider) => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|source| Error::Start {
                    what: "the runtime",
                    source,
                })?;
            findings.extend(runtime.block_on(provider.rehearse()));
        }
    }
    Ok(findings)
}

/// Binds every address that `serve` would, all of them at once, and lets go of them.
fn places(loaded: &Loaded) -> Vec<Finding> {
    let (mut findings, mut sockets, mut listeners) = (Vec::new(), Vec::new(), Vec::new());
    for address in &loaded.config.listen {
        let bound = Sockets::bind(&[*address]);
        findings.push(place("UDP", *address, bound.as_ref().err()));
        sockets.extend(bound);
    }
    for address in [loaded.config.admin, loaded.config.health].into_iter().flatten() {
        let bound = TcpListener::bind(address).map_err(|source| Error::Bind {
            kind: "TCP",
            address,
            source,
        });
        findings.push(place("TCP", address, bound.as_ref().err()));
        listeners.extend(bound);
    }
    if let Some(peers) = &loaded.config.peers {
        let bound = Sockets::bind(&[peers.listen]);
        findings.push(place("UDP", peers.listen, bound.as_ref().err()));
    }
    findings
}

fn place(kind: &str, address: SocketAddr, error: Option<&Error>) -> Finding {
    match error {
        None => Finding::Good(format!("listening: {kind} {address} is free")),
        // The usual case of a file that is checked before the running proxy takes it over.
        Some(Error::Bind { source, .. }) if source.kind() == ErrorKind::AddrInUse => Finding::Note(format!(
            "listening: {kind} {address} is taken: by the proxy that serves already, or by a program that has to end \
             before it can (`ss -lnp 'sport = :{}'` as root shows which)",
            address.port()
        )),
        Some(error) => Finding::Problem(format!("listening: {error}")),
    }
}

/// Opens the file of records as `serve` would, and leaves none behind.
fn records(sink: &RecordSink) -> Option<Finding> {
    let RecordSink::File(path) = sink else {
        return None;
    };
    let made = OpenOptions::new().create_new(true).append(true).open(path);
    let opened = match made {
        // Left behind it would only be empty.
        Ok(_) => fs::remove_file(path),
        // As `serve` opens it.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            OpenOptions::new().create(true).append(true).open(path).map(drop)
        }
        Err(error) => Err(error),
    };
    Some(match opened {
        Ok(()) => Finding::Good(format!("records: {path} can be written")),
        Err(source) => Finding::Problem(
            Error::OpenRecords {
                path: path.clone(),
                source,
            }
            .to_string(),
        ),
    })
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use std::path::Path;

    use super::*;
    use crate::testing::CONFIG;

    fn findings_of(folder: &Path, server: &str) -> Vec<Finding> {
        fs::create_dir_all(folder.join("seeds")).unwrap();
        fs::write(
            folder.join("seeds/users"),
            "otpauth://totp/jane?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\n",
        )
        .unwrap();
        fs::write(folder.join("secret"), "a shared secret").unwrap();
        let path = folder.join("config.toml");
        fs::write(&path, format!("[server]\n{server}\n{CONFIG}")).unwrap();
        findings(path, true).unwrap()
    }

    fn told(findings: &[Finding]) -> Vec<String> {
        findings.iter().map(|finding| format!("{finding:?}")).collect()
    }

    #[test]
    fn addresses_and_the_file_of_records_are_tried_and_left_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let server = "listen = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\nrecords = \"records.json\"";
        let told = told(&findings_of(folder.path(), server));
        assert!(told.iter().all(|each| each.starts_with("Good")), "{told:?}");
        assert!(
            told.iter().any(|each| each.contains("UDP 127.0.0.1:0 is free")),
            "{told:?}"
        );
        assert!(
            told.iter().any(|each| each.contains("TCP 127.0.0.1:0 is free")),
            "{told:?}"
        );
        assert!(
            told.iter()
                .any(|each| each.contains("records.json can be written")),
            "{told:?}"
        );
        assert!(!folder.path().join("records.json").exists());
    }

    #[test]
    fn an_address_that_is_taken_is_a_note_since_the_proxy_itself_may_have_it() {
        let folder = tempfile::tempdir().unwrap();
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let told = told(&findings_of(folder.path(), &format!("listen = [\"{address}\"]")));
        let note = format!("UDP {address} is taken");
        assert!(
            told.iter()
                .any(|each| each.starts_with("Note") && each.contains(&note)),
            "{told:?}"
        );
    }

    #[test]
    fn an_address_of_another_host_and_a_folder_that_is_not_there_are_problems() {
        let folder = tempfile::tempdir().unwrap();
        let server = "listen = [\"192.0.2.1:1812\"]\nrecords = \"nowhere/records.json\"";
        let told = told(&findings_of(folder.path(), server));
        for part in ["does not have that address", "the folder must exist"] {
            assert!(
                told.iter()
                    .any(|each| each.starts_with("Problem") && each.contains(part)),
                "{told:?}"
            );
        }
    }
}
