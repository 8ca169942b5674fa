//! What stands around the operator: a control plane without machines, the simulated AWS, and the operator itself. All of it
//! ends with the [`Stage`], however that ends.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use local_cluster::{Cluster, Console, Name, Options};

use super::Scale;
use super::sample::Sample;
use super::world::{REGION, World};
use crate::http;
use crate::process::Server;

/// The cluster's name.
const NAME: &str = "scale";
/// An address of this machine that nothing else listens on.
const METRICS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(127, 88, 0, 1)), 8080);

/// The programs that are run, and what they are told by files.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Programs<'a> {
    /// The operator, a release build.
    pub(crate) operator: &'a Path,
    /// The simulators, a release build.
    pub(crate) simulators: &'a Path,
    /// The folder of the CustomResourceDefinitions.
    pub(crate) crds: &'a Path,
}

/// Everything that was started.
pub(crate) struct Stage {
    // In the order in which they end.
    operator: Server,
    aws: Server,
    aws_admin: SocketAddr,
    cluster: Owned,
    pub(crate) client: Client,
}

/// A cluster that goes with its owner.
struct Owned {
    cluster: Cluster,
    name: Name,
}

impl Drop for Owned {
    fn drop(&mut self) {
        if let Err(error) = Cluster::down(&self.name, &Console::new()) {
            eprintln!("the cluster {} could not be ended: {error}", self.name);
        }
    }
}

impl Stage {
    /// Starts everything; the operator is ready, and there is nothing for it to do yet.
    pub(crate) async fn start(
        scale: &Scale,
        programs: &Programs<'_>,
        world: World,
        logs: &Path,
    ) -> Result<Self> {
        fs::create_dir_all(logs)?;
        let name: Name = NAME.parse()?;
        // One that an interrupted run left has its pods and directories still.
        Cluster::down(&name, &Console::new())?;
        let options = Options {
            name: name.clone(),
            nodes: 0,
        };
        let cluster = Owned {
            cluster: Cluster::up(&options, &Console::new())?,
            name,
        };
        let crds = programs.crds.display().to_string();
        cluster
            .cluster
            .kubectl(&["apply", "--server-side", "-f", &crds])?;
        let (aws, endpoint, aws_admin) = simulated_aws(programs, world, logs)?;
        let mut operator_command = Command::new(programs.operator);
        operator_command.args(&scale.operator_args);
        let operator = operator(operator_command, cluster.cluster.kubeconfig(), endpoint, logs)?;
        let client = client(cluster.cluster.kubeconfig()).await?;
        Ok(Self {
            operator,
            aws,
            aws_admin,
            cluster,
            client,
        })
    }

    /// Applies a List.
    pub(crate) fn apply(&self, list: &serde_json::Value, folder: &Path) -> Result<()> {
        let file = folder.join("foundations.json");
        fs::write(&file, list.to_string())?;
        let file = file.display().to_string();
        self.cluster
            .cluster
            .kubectl(&["apply", "--server-side", "-f", &file])?;
        Ok(())
    }

    /// What was used by now.
    pub(crate) fn sample(&self) -> Result<Sample> {
        Sample::take(&self.operator, METRICS, self.aws_admin)
            .with_context(|| format!("the operator's last words:\n{}", self.operator.tail()))
    }

    /// The admin API of the simulated AWS.
    pub(crate) const fn aws_admin(&self) -> SocketAddr {
        self.aws_admin
    }

    /// Fails where one of the programs has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.operator.check()?;
        self.aws.check()
    }
}

async fn client(kubeconfig: &Path) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

fn simulated_aws(
    programs: &Programs<'_>,
    world: World,
    logs: &Path,
) -> Result<(Server, SocketAddr, SocketAddr)> {
    let config = logs.join("directories.toml");
    fs::write(&config, world.simulated())?;
    let ready = logs.join("aws.ready");
    let _ = fs::remove_file(&ready);
    let mut command = Command::new(programs.simulators);
    command
        .args([
            "directory",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--log",
            "warn",
        ])
        .arg("--config")
        .arg(&config)
        .arg("--ready-file")
        .arg(&ready);
    let mut server = Server::start("aws", &command, logs)?;
    let mut found = None;
    server.wait(|| {
        found = addresses(&ready);
        found.is_some()
    })?;
    let (listen, admin) = found.context("the simulator does not say where it listens")?;
    Ok((server, listen, admin))
}

fn addresses(ready: &Path) -> Option<(SocketAddr, SocketAddr)> {
    let line: serde_json::Value = serde_json::from_str(&fs::read_to_string(ready).ok()?).ok()?;
    let of = |name: &str| line.get(name)?.as_str()?.parse().ok();
    Some((of("listen")?, of("admin")?))
}

/// The program as it is shipped, with its defaults.
fn operator(mut command: Command, kubeconfig: &Path, aws: SocketAddr, logs: &Path) -> Result<Server> {
    command
        .env("KUBECONFIG", kubeconfig)
        .env("AWS_ENDPOINT_URL", format!("http://{aws}"))
        .env("AWS_ACCESS_KEY_ID", "simulator")
        .env("AWS_SECRET_ACCESS_KEY", "simulator")
        .env("AWS_REGION", REGION)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .args([
            "--cluster-name",
            NAME,
            "--proxy-image",
            "proxy:scale",
            "--pod-namespace",
            "default",
        ])
        .args(["--metrics-address", &METRICS.to_string()]);
    let mut server = Server::start("operator", &command, logs)?;
    server.wait(|| http::get(METRICS, "/readyz").is_ok())?;
    Ok(server)
}
