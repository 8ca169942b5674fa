//! Where the demo runs: a local cluster made for it, or the cluster of the current context.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use e2e::{Images, Kubectl, NAMESPACE, OPERATOR_NAMESPACE, RELEASE, SIMULATED};
use local_cluster::image::{self, Archive};
use local_cluster::tools::{self, Tool};
use local_cluster::{Cluster, Console, Name, Options};

use super::narrator::{Narrator, passthrough};

/// The label of the namespaces that a demo made.
const DEMO: &str = "radius-mfa.dev/demo=true";
/// Them.
const NAMESPACES: [&str; 3] = [SIMULATED, NAMESPACE, OPERATOR_NAMESPACE];
/// The definitions.
const CRDS: [&str; 3] = [
    "radiusproxies.radius-mfa.dev",
    "directoryregistrations.radius-mfa.dev",
    "directorygrants.radius-mfa.dev",
];

/// A cluster with the images in it, and the programs to speak to it.
pub(super) struct Place {
    pub(super) kubectl: Kubectl,
    pub(super) helm: PathBuf,
    pub(super) chart: PathBuf,
    pub(super) radius_proxy: PathBuf,
    /// Where the demo writes what it applies, so that it can be read, changed and applied again.
    pub(super) manifests: PathBuf,
    pub(super) images: Images,
    pub(super) without_dns: bool,
    local: bool,
}

impl Place {
    /// The local cluster, brought up when it is not there.
    pub(super) fn local(say: &mut Narrator, name: &Name, nodes: u8) -> Result<Self> {
        say.command(&format!("cargo xtask cluster up --name {name} --nodes {nodes}"));
        tools::ensure(&[Tool::Helm], &Console::new())?;
        let cluster = Cluster::up(
            &Options {
                name: name.clone(),
                nodes,
            },
            &Console::new(),
        )?;
        let kubectl = Kubectl::new(&cluster.kubectl_path(), Some(cluster.kubeconfig()));
        say.command(&format!("export KUBECONFIG={}", cluster.kubeconfig().display()));
        if let Some(path) = path_for(&[&cluster.kubectl_path(), &Tool::Helm.path()]) {
            say.command(&path);
        }
        say.kubectl(&kubectl, &["get", "nodes", "-L", "topology.kubernetes.io/zone"])?;
        let archives = build_images(say, Some(name))?;
        cluster.load_images(&archives, &Console::new())?;
        Ok(Self::new(
            kubectl,
            Tool::Helm.path(),
            images_of(&archives, None)?,
            true,
        ))
    }

    /// The cluster of the current context; the images get there by what its kind offers.
    pub(super) fn current(say: &mut Narrator) -> Result<Self> {
        let program = PathBuf::from("kubectl");
        let kubectl = Kubectl::new(&program, None);
        let context = kubectl
            .run(&["config", "current-context"])
            .context("there is no current kubectl context; `kubectl config use-context NAME` sets one")?;
        let context = context.trim();
        say.say(&format!("context {context}"));
        say.kubectl(&kubectl, &["get", "nodes", "-L", "topology.kubernetes.io/zone"])?;
        tools::ensure(&[Tool::Helm], &Console::new())?;
        if let Some(path) = path_for(&[&Tool::Helm.path()]) {
            say.command(&path);
        }
        let archives = build_images(say, None)?;
        let registry = send_images(say, context, &archives)?;
        let images = images_of(&archives, registry.as_deref())?;
        Ok(Self::new(kubectl, Tool::Helm.path(), images, false))
    }

    fn new(kubectl: Kubectl, helm: PathBuf, images: Images, local: bool) -> Self {
        let repository = crate::repository();
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository.join("target"), PathBuf::from);
        Self {
            kubectl,
            helm,
            chart: repository.join("charts/radius-mfa-operator"),
            manifests: target.join("demo"),
            radius_proxy: target.join("x86_64-unknown-linux-gnu/release/radius-proxy"),
            images,
            without_dns: local,
            local,
        }
    }

    /// Makes room: removes what an earlier demo left, refuses to touch anything that is not a demo's, and marks the
    /// namespaces that this one uses.
    pub(super) fn make_room(&self, say: &Narrator) -> Result<()> {
        if !demos(&self.kubectl)?.is_empty() {
            say.waiting("removing what an earlier demo left", || {
                remove(&self.kubectl, &self.helm)
            })?;
        }
        let namespaces = NAMESPACES.map(|name| format!("namespace/{name}"));
        let definitions = CRDS.map(|name| format!("crd/{name}"));
        let mut get = vec!["get", "--ignore-not-found", "-o", "name"];
        get.extend(namespaces.iter().chain(&definitions).map(String::as_str));
        let foreign = self.kubectl.run(&get)?;
        let foreign: Vec<&str> = foreign.split_whitespace().collect();
        if !foreign.is_empty() {
            bail!(
                "this cluster has {} already, and no demo made them: the demo would change an installation that somebody uses. \
                 Run it on another cluster, or remove them first",
                foreign.join(", ")
            );
        }
        for name in NAMESPACES {
            self.kubectl.ensure_namespace(name)?;
            self.kubectl.run(&["label", "namespace", name, DEMO])?;
        }
        Ok(())
    }

    /// `make demo-down CLUSTER=current`
    pub(super) fn remove_from_current() -> Result<()> {
        let kubectl = Kubectl::new(Path::new("kubectl"), None);
        if demos(&kubectl)?.is_empty() {
            println!("no demo is on this cluster");
            return Ok(());
        }
        tools::ensure(&[Tool::Helm], &Console::new())?;
        remove(&kubectl, &Tool::Helm.path())?;
        println!("the demo's namespaces, its release and its definitions are gone");
        Ok(())
    }

    /// What to try next.
    pub(super) fn farewell(&self, say: &Narrator) {
        say.say("");
        say.say("The cluster is left running. What to try next:");
        if let Some(path) = self.kubectl.kubeconfig() {
            say.command(&format!("export KUBECONFIG={}", path.display()));
        }
        if let (true, Some(path)) = (self.local, path_for(&[&Tool::Kubectl.path()])) {
            say.command(&path);
        }
        for command in [
            format!("kubectl -n {NAMESPACE} describe rp workspaces"),
            format!("kubectl -n {NAMESPACE} scale rp workspaces --replicas=3"),
            format!("kubectl -n {NAMESPACE} get rp,pods -o wide"),
            format!(
                "kubectl -n {NAMESPACE} logs -l radius-mfa.dev/proxy=workspaces -c proxy --prefix --tail=20"
            ),
            format!(
                "kubectl -n {OPERATOR_NAMESPACE} logs -l app.kubernetes.io/name=radius-mfa-operator --prefix --tail=20"
            ),
            "kubectl explain radiusproxy.spec.directory".to_owned(),
        ] {
            say.command(&command);
        }
        say.say(&format!(
            "The manifests are in {}; the files in examples/ are for directories of your own.",
            typed(&self.manifests)
        ));
        say.say(if self.local {
            "make demo-down ends it."
        } else {
            "make demo-down CLUSTER=current removes the demo from it."
        });
    }
}

/// What makes the programs at these paths those that are called by their names; `None` when they are that already.
fn path_for(programs: &[&Path]) -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let known: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let is_found = |name: &std::ffi::OsStr| known.iter().any(|folder| folder.join(name).is_file());
    let mut folders: Vec<String> = programs
        .iter()
        .filter(|program| !program.file_name().is_some_and(is_found))
        .filter_map(|program| Some(program.parent()?.display().to_string()))
        .collect();
    folders.dedup();
    (!folders.is_empty()).then(|| format!("export PATH={}:$PATH", folders.join(":")))
}

/// A path as it is typed in the repository's folder.
pub(super) fn typed(path: &Path) -> String {
    let short = path.strip_prefix(crate::repository());
    short.unwrap_or(path).display().to_string()
}

fn build_images(say: &mut Narrator, into: Option<&Name>) -> Result<Vec<Archive>> {
    say.step(
        "The images, built from these sources",
        "Static programs and nothing else in them. The first build takes minutes.",
    );
    let load = into.map_or_else(String::new, |name| format!(" --load {name}"));
    say.command(&format!("cargo xtask images{load}"));
    Ok(image::build(&crate::repository(), &Console::new())?)
}

/// The references to use, in a registry or as they were loaded.
fn images_of(archives: &[Archive], registry: Option<&str>) -> Result<Images> {
    let reference = |name: &str| {
        let found = archives
            .iter()
            .find(|a| a.reference.contains(&format!("/{name}:dev")));
        let reference = &found
            .with_context(|| format!("no image of {name} was built"))?
            .reference;
        Ok::<_, anyhow::Error>(match registry {
            Some(registry) => in_registry(registry, reference),
            None => reference.clone(),
        })
    };
    Ok(Images {
        operator: reference("operator")?,
        proxy: reference("proxy")?,
        simulators: reference("simulators")?,
        pull_policy: if registry.is_some() { "Always" } else { "Never" }.to_owned(),
    })
}

fn in_registry(registry: &str, reference: &str) -> String {
    let name = reference.rsplit('/').next().unwrap_or(reference);
    format!("{}/{name}", registry.trim_end_matches('/'))
}

/// Sends the images to where the nodes of the current context find them. Returns the registry, when it was one.
fn send_images(say: &Narrator, context: &str, archives: &[Archive]) -> Result<Option<String>> {
    let command = |program: &str, args: &[&str]| {
        say.command(&format!("{program} {}", args.join(" ")));
        let mut command = Command::new(program);
        command.args(args);
        passthrough(command)
    };
    if let Ok(registry) = std::env::var("DEMO_REGISTRY") {
        for archive in archives {
            let target = format!("docker://{}", in_registry(&registry, &archive.reference));
            command(
                "skopeo",
                &[
                    "copy",
                    &format!("oci-archive:{}", archive.path.display()),
                    &target,
                ],
            )?;
        }
        return Ok(Some(registry));
    }
    for archive in archives {
        let path = archive.path.display().to_string();
        if let Some(name) = context.strip_prefix("kind-") {
            command("kind", &["load", "image-archive", &path, "--name", name])?;
        } else if let Some(name) = context.strip_prefix("k3d-") {
            command("k3d", &["image", "import", &path, "-c", name])?;
        } else if context == "minikube" {
            command("minikube", &["image", "load", &path])?;
        } else {
            bail!(
                "the images must get to the nodes of the context {context}: name a registry that they pull from and that \
                 you may push to, DEMO_REGISTRY=registry.example.com/team make demo CLUSTER=current (skopeo copies them; log \
                 in with `skopeo login`). For kind, k3d and minikube they are loaded without one"
            );
        }
    }
    Ok(None)
}

/// The namespaces of a demo that are there.
fn demos(kubectl: &Kubectl) -> Result<Vec<String>> {
    let names = kubectl.run(&["get", "namespaces", "-l", DEMO, "-o", "name"])?;
    Ok(names.split_whitespace().map(str::to_owned).collect())
}

/// Removes everything that a demo makes: resources first, while the operator can still tidy up after them.
///
/// Only where there are namespaces with a demo's label: a demo begins on no cluster that has the definitions already, so
/// they are its own, too.
fn remove(kubectl: &Kubectl, helm: &Path) -> Result<()> {
    kubectl.try_run(&["-n", NAMESPACE, "delete", "rp", "--all", "--timeout=60s"], None)?;
    // The operator ends them after their RadiusProxy. Without it nobody would remove their finalizers.
    kubectl.try_run(&["wait", "--for=delete", "dreg", "--all", "--timeout=60s"], None)?;
    let mut uninstall = kubectl.command(helm);
    uninstall.args([
        "uninstall",
        RELEASE,
        "--namespace",
        OPERATOR_NAMESPACE,
        "--ignore-not-found",
        "--wait",
    ]);
    let output = uninstall.output()?;
    if !output.status.success() {
        bail!(
            "helm uninstall: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    kubectl.run(&[
        "delete",
        "crd",
        CRDS[0],
        CRDS[1],
        CRDS[2],
        "--ignore-not-found",
        "--timeout=60s",
    ])?;
    kubectl
        .run(&["delete", "namespaces", "-l", DEMO, "--timeout=120s"])
        .map(drop)
}
