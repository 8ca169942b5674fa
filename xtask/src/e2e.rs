//! `cargo xtask e2e`: the end-to-end tests on a three-node cluster of their own, which is gone afterwards.

use std::cmp::Reverse;
use std::fs::{File, TryLockError};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use local_cluster::image::{self, Archive};
use local_cluster::tools::{self, Tool};
use local_cluster::{Cluster, Console, Name, Options};

/// The tests' own cluster: it can stand beside the demo's.
const NAME: &str = "test";
/// How many of the slowest tests are named at the end, so that somebody sees what `make test` spends its time on.
const SLOWEST: usize = 12;

/// What stands above the table.
const FAILURES: &str = "\
# What fails, and who notices

Two proxies in two of three zones, Duo pushes, `timeoutSeconds: 5`, a login each second from each of two domain controllers, on the local
three-node cluster. The tests that `make failures` runs wrote each row; nobody edits them.

- *Failed*: logins that got no answer or a refusal, after the directory's own retries and fail-over.
- *Failed over*: logins for which the directory asked a second proxy, since the first did not answer. They are no failures: the user waits longer.
- *Slowest*: the longest login, from the directory's first request to its end. With `timeoutSeconds: 5` one that failed over takes a little more than 5 s.
- *While AWS was changing settings*: logins begun while AWS was changing RADIUS settings, which AWS would have refused. They are why writes are few.
- While Duo is away logins are refused at once, in words that say so, since `failMode: Secure` is written there; passcodes of TOTP and all other RadiusProxy resources are
  not touched.
- *Writes to AWS*: those that AWS carried out. *Failed* are those that it refused or didn't answer, which change nothing and block no login.
- A node that is lost without a word may have used the approval of a push in its last moment. The other proxy doesn't accept that push a second time: with two
  proxies such a login, at most one at each domain controller, is refused after 8 s, and the next one gets a new push. With three the others agree.
- *Full set again after*: from the failure's begin, its repair included where somebody has to make it, to every ready proxy registered and AWS
  saying Completed. Of a replaced directory: from the new one's making to its RadiusProxy being Ready.
- A write that AWS ends in Failed is tried again after five minutes, since each try blocks logins. The proxies answer meanwhile.
";

#[derive(Debug, Args, Default)]
pub(crate) struct Arguments {
    /// Leave the cluster running, to look at what happened.
    #[arg(long)]
    keep: bool,
    /// Only the failures, at length (the API server is away for two minutes, a node is lost and nobody says so), and
    /// write their table to docs/failures.md.
    #[arg(long, conflicts_with = "filter")]
    failures: bool,
    /// What takes too long for `make test`: the failures at length, and every ignored test. No page is written.
    #[arg(long, conflicts_with_all = ["failures", "filter"])]
    long: bool,
    /// Only tests whose names contain one of these.
    filter: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let name: Name = NAME.parse()?;
    let console = Console::new();
    tools::ensure(&[Tool::Helm], &console)?;
    local_cluster::ensure_for_end_to_end_tests(&console)?;
    let archives = image::build(&crate::repository(), &console)?;
    let _alone = alone()?;
    // One that an interrupted run left has its objects and simulated directories still.
    Cluster::down(&name, &console)?;
    let cluster = Cluster::up(
        &Options {
            name: name.clone(),
            nodes: 3,
        },
        &console,
    )?;
    let tested = cluster
        .load_images(&archives, &console)
        .map_err(Into::into)
        .and_then(|()| {
            drop(console);
            for archive in &archives {
                println!("{}: {:.1} MB", archive.reference, megabytes(archive.size));
            }
            test(&cluster, &archives, arguments)
        });
    if arguments.keep {
        eprintln!(
            "the cluster is left running: export KUBECONFIG={}",
            cluster.kubeconfig().display()
        );
    } else {
        Cluster::down(&name, &Console::new())?;
    }
    tested
}

/// The tests' cluster is this run's as long as the file is open. It is a lock on the tools' folder, so that no file stays
/// for it.
fn alone() -> Result<File> {
    let folder = File::open(tools::cache_folder())?;
    match folder.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            eprintln!("waiting for another run of the end-to-end tests on this machine to end");
            folder.lock()?;
        }
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    Ok(folder)
}

fn test(cluster: &Cluster, archives: &[Archive], arguments: &Arguments) -> Result<()> {
    let reference = |name: &str| {
        let found = archives
            .iter()
            .find(|a| a.reference.ends_with(&format!("/{name}:dev")));
        found
            .map(|a| a.reference.clone())
            .with_context(|| format!("no image of {name} was built"))
    };
    let own = [
        ("E2E_KUBECONFIG", cluster.kubeconfig().as_os_str().to_owned()),
        ("E2E_KUBECTL", cluster.kubectl_path().into_os_string()),
        ("E2E_HELM", Tool::Helm.path().into_os_string()),
        ("E2E_XTASK", std::env::current_exe()?.into_os_string()),
        ("E2E_CLUSTER", NAME.into()),
        ("E2E_OPERATOR_IMAGE", reference("operator")?.into()),
        ("E2E_PROXY_IMAGE", reference("proxy")?.into()),
        ("E2E_SIMULATORS_IMAGE", reference("simulators")?.into()),
    ];
    let filter: Vec<&str> = arguments.filter.iter().map(String::as_str).collect();
    let at_length = ["failures::", "--include-ignored"];
    let selections: &[&[&str]] = match (arguments.long, arguments.failures) {
        (true, _) => &[&at_length, &["--ignored", "--skip", "failures::"]],
        (false, true) => &[&at_length],
        (false, false) => &[&filter],
    };
    let mut times = Vec::new();
    for selection in selections {
        // Of the whole workspace: of the package alone, its dependencies would have fewer features and be built again.
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command
            .args([
                "test",
                "--workspace",
                "--features",
                "e2e/cluster",
                "--test",
                "cluster",
                "--",
            ])
            .args(*selection)
            .args(["--test-threads=1", "--nocapture"])
            .current_dir(crate::repository())
            .envs(own.clone());
        if arguments.long || arguments.failures {
            command.env("E2E_AWAY_SECONDS", "120");
        } else {
            // Not the chart's 45 and 30 s: many tests wait for the next look at a directory.
            command.env("E2E_DESCRIBE_EVERY", "10");
        }
        let passed = timed(&mut command, &mut times)?;
        if !passed {
            show_what_is_left(cluster.kubectl_path().as_path(), cluster.kubeconfig());
            bail!(
                "the end-to-end tests failed; `cargo xtask e2e --keep FILTER` leaves the cluster running to look at it"
            );
        }
    }
    tell_slowest(times);
    if arguments.failures {
        write_failures()?;
    }
    Ok(())
}

/// Runs the tests, shows what they say, and notes how long each took. Whether all passed.
fn timed(command: &mut Command, times: &mut Vec<(Duration, String)>) -> Result<bool> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run cargo")?;
    let output = child.stdout.take().context("the tests have no output")?;
    let (mut running, mut since) = (None, Instant::now());
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("cannot read what the tests say")?;
        // A test may show what is no text, such as a packet.
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        if let Some(name) = test_of(&line) {
            running = Some(name.to_owned());
        }
        // One runs after another, so each begins when the one before has ended, and the first when cargo has built them.
        if line.starts_with("running ") {
            since = Instant::now();
        }
        if is_end(&line)
            && let Some(name) = running.take()
        {
            times.push((since.elapsed(), name));
            since = Instant::now();
        }
    }
    Ok(child.wait()?.success())
}

/// The test that a line of libtest's is about: `test NAME ... `, with what the test itself says, or how it ended, behind.
fn test_of(line: &str) -> Option<&str> {
    let (name, _) = line.strip_prefix("test ")?.split_once(" ... ")?;
    Some(name)
}

/// Whether a test ends with this line: alone where the test has said something, else behind its name.
fn is_end(line: &str) -> bool {
    matches!(line, "ok" | "FAILED")
        || (test_of(line).is_some() && (line.ends_with(" ... ok") || line.ends_with(" ... FAILED")))
}

fn tell_slowest(mut times: Vec<(Duration, String)>) {
    times.sort_by_key(|(time, _)| Reverse(*time));
    println!("the slowest tests:");
    for (time, name) in times.iter().take(SLOWEST) {
        println!("{:>7.1} s  {name}", time.as_secs_f64());
    }
}

/// Puts the table that the tests have just made into docs/.
fn write_failures() -> Result<()> {
    let repository = crate::repository();
    let table = std::fs::read_to_string(repository.join("target/e2e/failures.md"))?;
    let page = repository.join("docs/failures.md");
    std::fs::write(&page, format!("{FAILURES}\n{table}"))?;
    println!("{} is written", page.display());
    Ok(())
}

/// After a failure: what a person would ask first.
fn show_what_is_left(kubectl: &Path, kubeconfig: &Path) {
    for args in [
        &["get", "rp,pods", "-A", "-o", "wide"][..],
        &[
            "get",
            "rp",
            "-A",
            "-o",
            "jsonpath={range .items[*]}{.metadata.name}: {.status.conditions}{'\\n'}{end}",
        ],
        &["get", "events", "-A", "--sort-by=.lastTimestamp"],
        &[
            "-n",
            "radius-mfa-system",
            "logs",
            "-l",
            "app.kubernetes.io/name=radius-mfa-operator",
            "--tail=60",
            "--prefix",
        ],
    ] {
        eprintln!("$ kubectl {}", args.join(" "));
        let shown = Command::new(kubectl)
            .args(args)
            .env("KUBECONFIG", kubeconfig)
            .status();
        if let Err(error) = shown {
            eprintln!("{error}");
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "for people, one digit")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1_000_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tests_end_is_found_whether_it_said_something_or_not() {
        for (line, test, end) in [
            ("test logins::a_push ... ok", Some("logins::a_push"), true),
            ("test logins::a_push ... FAILED", Some("logins::a_push"), true),
            (
                "test logins::a_push ... the cluster is up",
                Some("logins::a_push"),
                false,
            ),
            ("test logins::a_push ... ", Some("logins::a_push"), false),
            (
                "test failures::long ... ignored, takes minutes",
                Some("failures::long"),
                false,
            ),
            ("ok", None, true),
            ("FAILED", None, true),
            ("all is ok", None, false),
            ("test result: ok. 3 passed; 0 failed", None, false),
        ] {
            assert_eq!(test_of(line), test, "{line:?}");
            assert_eq!(is_end(line), end, "{line:?}");
        }
    }

    #[test]
    fn each_test_has_the_time_since_the_one_before() {
        let mut times = Vec::new();
        let script = "printf 'test a ... said \\377\\n'; echo ok; echo ok; echo 'test b ... ignored'; echo 'test c ... FAILED'; exit 3";
        let passed = timed(Command::new("sh").args(["-c", script]), &mut times).unwrap();
        let names: Vec<&str> = times.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!((names, passed), (vec!["a", "c"], false));
    }
}
