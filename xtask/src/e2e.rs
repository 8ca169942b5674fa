//! `cargo xtask e2e`: the end-to-end tests on a three-node cluster of their own, which is gone afterwards.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use local_cluster::image::{self, Archive};
use local_cluster::tools::{self, Tool};
use local_cluster::{Cluster, Console, Name, Options};

/// The tests' own cluster: it can stand beside the demo's.
const NAME: &str = "test";

/// What stands above the table.
const FAILURES: &str = "\
# What fails, and who notices

Two proxies in two of three zones, Duo pushes, `timeoutSeconds: 5`, a login each second from each of two domain controllers, on the local
three-node cluster. The tests that `make failures` runs wrote each row; nobody edits them.

- *Failed*: logins that got no answer or a refusal, after the directory's own retries and fail-over.
- *Failed over*: logins for which the directory asked a second proxy, since the first did not answer. They are no failures: the user waits longer.
- *Slowest*: the longest login, from the directory's first request to its end. With `timeoutSeconds: 5` one that failed over takes a little more than 5 s.
- *While AWS was changing settings*: logins begun while AWS was changing RADIUS settings, which AWS would have refused. They are why writes are few.
- While Duo is away logins are refused at once, in words that say so, since `failMode: secure` is written there; passcodes of TOTP and all other RadiusProxy resources are
  not touched.
- *Writes to AWS*: those that AWS carried out. *In vain* are those that it refused or did not answer, which change nothing and block no login.
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
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args([
        "test",
        "--package",
        "e2e",
        "--features",
        "cluster",
        "--test",
        "cluster",
        "--",
    ]);
    if arguments.failures {
        command.args(["failures::", "--include-ignored"]);
        command.env("E2E_AWAY_SECONDS", "120");
    }
    command
        .args(&arguments.filter)
        .args(["--test-threads=1", "--nocapture"]);
    command.current_dir(crate::repository());
    command
        .env("E2E_KUBECONFIG", cluster.kubeconfig())
        .env("E2E_KUBECTL", cluster.kubectl_path());
    command.env("E2E_HELM", Tool::Helm.path());
    command
        .env("E2E_XTASK", std::env::current_exe()?)
        .env("E2E_CLUSTER", NAME);
    command.env("E2E_OPERATOR_IMAGE", reference("operator")?);
    command.env("E2E_PROXY_IMAGE", reference("proxy")?);
    command.env("E2E_SIMULATORS_IMAGE", reference("simulators")?);
    let status = command.status()?;
    if !status.success() {
        show_what_is_left(cluster.kubectl_path().as_path(), cluster.kubeconfig());
        bail!(
            "the end-to-end tests failed; `cargo xtask e2e --keep FILTER` leaves the cluster running to look at it"
        );
    }
    if arguments.failures {
        write_failures()?;
    }
    Ok(())
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
