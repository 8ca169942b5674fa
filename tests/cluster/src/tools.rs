//! The pinned programs: built from Go modules into a cache folder that is named after what is pinned.
//!
//! The pins are the two `go.mod` files under `tests/cluster/tools`, compiled into this crate; changing one names another
//! folder. A program appears in its folder by a rename, so one that is half built is never taken for a finished one.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use aws_lc_rs::digest::{Context, SHA256};

use crate::command::which;
use crate::error::{Error, log_tail};
use crate::progress::{Progress, step};

/// A pinned program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// The API server.
    KubeApiserver,
    /// The controller manager.
    KubeControllerManager,
    /// The scheduler.
    KubeScheduler,
    /// The Service proxy of a node.
    KubeProxy,
    /// The agent of a node.
    Kubelet,
    /// The command line client.
    Kubectl,
    /// Helm 3.
    Helm,
    /// The checker of manifests against schemas.
    Kubeconform,
}

/// A Go module that pins programs.
#[derive(Debug)]
struct Module {
    name: &'static str,
    go_mod: &'static str,
    go_sum: &'static str,
    /// What its programs are told about their version: `{v}` is the version of the Tool's own module.
    ldflags: fn(&Module) -> String,
}

const KUBERNETES: &str = "k8s.io/kubernetes";
const HELM: &str = "helm.sh/helm/v3";
const KUBECONFORM: &str = "github.com/yannh/kubeconform";

static KUBERNETES_MODULE: Module = Module {
    name: "kubernetes",
    go_mod: include_str!("../tools/kubernetes/go.mod"),
    go_sum: include_str!("../tools/kubernetes/go.sum"),
    ldflags: |module| {
        let version = module.version(KUBERNETES);
        let mut numbers = version.trim_start_matches('v').split('.');
        let (major, minor) = (
            numbers.next().unwrap_or_default(),
            numbers.next().unwrap_or_default(),
        );
        let package = "k8s.io/component-base/version";
        format!(
            "-s -w -X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor} \
             -X {package}.gitTreeState=clean"
        )
    },
};

static CHARTS_MODULE: Module = Module {
    name: "charts",
    go_mod: include_str!("../tools/charts/go.mod"),
    go_sum: include_str!("../tools/charts/go.sum"),
    ldflags: |module| {
        let (helm, kubeconform) = (module.version(HELM), module.version(KUBECONFORM));
        format!("-s -w -X helm.sh/helm/v3/internal/version.version={helm} -X main.version={kubeconform}")
    },
};

impl Tool {
    /// What a cluster needs.
    pub const CLUSTER: [Self; 6] = [
        Self::KubeApiserver,
        Self::KubeControllerManager,
        Self::KubeScheduler,
        Self::KubeProxy,
        Self::Kubelet,
        Self::Kubectl,
    ];

    /// The program's file name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::KubeScheduler => "kube-scheduler",
            Self::KubeProxy => "kube-proxy",
            Self::Kubelet => "kubelet",
            Self::Kubectl => "kubectl",
            Self::Helm => "helm",
            Self::Kubeconform => "kubeconform",
        }
    }

    /// Where the program is, or will be once [`ensure`] has built it.
    #[must_use]
    pub fn path(self) -> PathBuf {
        self.module().folder().join("bin").join(self.name())
    }

    fn module(self) -> &'static Module {
        match self {
            Self::Helm | Self::Kubeconform => &CHARTS_MODULE,
            _ => &KUBERNETES_MODULE,
        }
    }

    fn package(self) -> String {
        let module = match self {
            Self::Helm => HELM,
            Self::Kubeconform => KUBECONFORM,
            _ => KUBERNETES,
        };
        format!("{module}/cmd/{}", self.name())
    }
}

/// The version of Kubernetes that is pinned, such as `v1.34.4`.
#[must_use]
pub fn kubernetes_version() -> &'static str {
    KUBERNETES_MODULE.version(KUBERNETES)
}

/// The cache folder: `RADIUS_MFA_CACHE`, else `radius-mfa-operator` in `XDG_CACHE_HOME` or `~/.cache`.
#[must_use]
pub fn cache_folder() -> PathBuf {
    let of = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let user = || of("XDG_CACHE_HOME").or_else(|| of("HOME").map(|home| home.join(".cache")));
    let own = || {
        user()
            .unwrap_or_else(|| "/var/cache".into())
            .join("radius-mfa-operator")
    };
    of("RADIUS_MFA_CACHE").unwrap_or_else(own)
}

/// Builds those of the programs that are not in the cache yet: minutes the first time, nothing afterwards.
///
/// # Errors
/// When Go is not installed, or the build fails.
pub fn ensure(tools: &[Tool], progress: &dyn Progress) -> Result<(), Error> {
    for module in [&KUBERNETES_MODULE, &CHARTS_MODULE] {
        let wanted = || {
            tools
                .iter()
                .copied()
                .filter(|tool| std::ptr::eq(tool.module(), module))
        };
        if wanted().all(|tool| tool.path().is_file()) {
            continue;
        }
        let folder = module.folder();
        fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
        let lock = File::open(&folder).map_err(Error::file("open", &folder))?;
        lock.lock().map_err(Error::file("lock", &folder))?;
        // Another process may have built them while this one waited for the lock.
        let missing: Vec<Tool> = wanted().filter(|tool| !tool.path().is_file()).collect();
        if !missing.is_empty() {
            build(module, &missing, progress)?;
        }
    }
    Ok(())
}

/// The folder of a module in Go's own module cache, fetched if it is not there: for files that come with the sources.
pub(crate) fn kubernetes_sources() -> Result<PathBuf, Error> {
    let module = KUBERNETES_MODULE.write_out()?;
    let mut command = go_command(&module)?;
    command.args(["mod", "download", "-json", KUBERNETES]);
    let answer = crate::command::run_command(&mut command, None)?;
    let content = |reason: String| Error::Content {
        path: module.clone(),
        what: "Go's answer",
        reason,
    };
    let answer: serde_json::Value = serde_json::from_str(&answer).map_err(|e| content(e.to_string()))?;
    let folder = answer.get("Dir").and_then(serde_json::Value::as_str);
    folder.map(PathBuf::from).ok_or_else(|| content("no Dir".into()))
}

fn build(module: &Module, tools: &[Tool], progress: &dyn Progress) -> Result<(), Error> {
    let names = tools
        .iter()
        .map(|tool| tool.name())
        .collect::<Vec<_>>()
        .join(", ");
    let title = format!("build {}", module.title());
    let work = || {
        let unfinished = module.folder().join("unfinished");
        fs::create_dir_all(&unfinished).map_err(Error::file("create", &unfinished))?;
        compile(module, tools, &unfinished, &|detail| {
            progress.detail(&title, detail);
        })?;
        let bin = module.folder().join("bin");
        fs::create_dir_all(&bin).map_err(Error::file("create", &bin))?;
        for tool in tools {
            let built = unfinished.join(tool.name());
            fs::rename(&built, tool.path()).map_err(Error::file("move", &built))?;
        }
        fs::remove_dir_all(&unfinished).map_err(Error::file("remove", &unfinished))
    };
    step(progress, &title, |()| names, work)
}

/// Runs `go build -v`, whose standard error names each package as it is compiled.
fn compile(module: &Module, tools: &[Tool], into: &Path, tell: &dyn Fn(&str)) -> Result<(), Error> {
    let mut command = go_command(&module.write_out()?)?;
    command.args(["build", "-v", "-trimpath", "-ldflags", &(module.ldflags)(module)]);
    command
        .arg("-o")
        .arg(format!("{}/", into.display()))
        .args(tools.iter().map(|tool| tool.package()));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let log = module.folder().join("build.log");
    let mut log_file = File::create(&log).map_err(Error::file("create", &log))?;
    let launch = |source| Error::Launch {
        program: "go".into(),
        source,
    };
    let mut child = command.spawn().map_err(launch)?;
    let lines = child.stderr.take().map(|stderr| BufReader::new(stderr).lines());
    for (count, line) in lines.into_iter().flatten().map_while(Result::ok).enumerate() {
        _ = writeln!(log_file, "{line}");
        tell(&format!("package {}: {line}", count + 1));
    }
    let status = child.wait().map_err(launch)?;
    if status.success() {
        return Ok(());
    }
    let (status, tail) = (status.to_string(), log_tail(&log, 8));
    Err(Error::Build {
        what: module.title(),
        status,
        log,
        tail,
    })
}

fn go_command(folder: &Path) -> Result<Command, Error> {
    let usual = || Some(PathBuf::from("/usr/local/go/bin/go")).filter(|path| path.is_file());
    let go = which("go").or_else(usual).ok_or_else(|| Error::Packages {
        missing: "Go 1.24 or newer".into(),
        hint: "Kubernetes, Helm and kubeconform are built from their pinned sources: install Go from https://go.dev/dl \
               and put it on the PATH"
            .into(),
    })?;
    let mut command = Command::new(go);
    command
        .current_dir(folder)
        .env("CGO_ENABLED", "0")
        .env("GOWORK", "off")
        .env("GOFLAGS", "-buildvcs=false");
    Ok(command)
}

impl Module {
    /// The version of a required module, read from the pins themselves.
    fn version(&self, of: &str) -> &'static str {
        let require = self.go_mod.lines().find_map(|line| {
            let line = line.trim();
            let line = line.strip_prefix("require ").unwrap_or(line);
            line.strip_prefix(of)?.strip_prefix(' ')?.split(' ').next()
        });
        require.unwrap_or_default()
    }

    fn title(&self) -> String {
        match self.name {
            "kubernetes" => format!("Kubernetes {}", self.version(KUBERNETES)),
            _ => "chart programs".to_owned(),
        }
    }

    /// Named after the version for people, and after all that is pinned for the machine.
    fn folder(&self) -> PathBuf {
        let mut digest = Context::new(&SHA256);
        for part in [self.go_mod, self.go_sum, &(self.ldflags)(self)] {
            digest.update(part.as_bytes());
        }
        let digest = hex::encode(digest.finish());
        let digest = digest.get(..12).unwrap_or_default();
        let version = if self.name == "kubernetes" {
            self.version(KUBERNETES)
        } else {
            self.version(HELM)
        };
        cache_folder().join(format!("{}-{version}-{digest}", self.name))
    }

    fn write_out(&self) -> Result<PathBuf, Error> {
        let folder = self.folder().join("module");
        fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
        for (name, content) in [("go.mod", self.go_mod), ("go.sum", self.go_sum)] {
            let path = folder.join(name);
            fs::write(&path, content).map_err(Error::file("write", &path))?;
        }
        Ok(folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_that_the_module_files_pin() {
        assert!(
            kubernetes_version().starts_with("v1."),
            "{}",
            kubernetes_version()
        );
        assert!(CHARTS_MODULE.version(HELM).starts_with("v3."));
        assert!(CHARTS_MODULE.version(KUBECONFORM).starts_with("v0."));
    }

    #[test]
    fn every_tool_is_among_the_tools_of_its_module() {
        for tool in Tool::CLUSTER.into_iter().chain([Tool::Helm, Tool::Kubeconform]) {
            assert!(tool.module().go_mod.contains(&tool.package()), "{tool:?}");
        }
    }

    #[test]
    fn the_staging_modules_follow_the_version_of_kubernetes() {
        let staging = kubernetes_version().replacen("v1.", "v0.", 1);
        let replaced = KUBERNETES_MODULE
            .go_mod
            .lines()
            .filter(|line| line.contains("=>"));
        assert!(replaced.clone().count() > 25);
        assert!(replaced.into_iter().all(|line| line.ends_with(&staging)));
    }
}
