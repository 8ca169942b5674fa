//! The steps of the demo. Each shows something real and fails loudly when it is not so.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::{
    CONNECTOR_DIRECTORY, DuoProxy, Install, MICROSOFT_DIRECTORY, NAMESPACE, OPERATOR_NAMESPACE, SIMULATED,
    Seed, Simulators, TotpProxy,
};

use super::narrator::Narrator;
use super::place::{Place, typed};

/// How many steps there are, the cluster and the images among them.
pub(super) const COUNT: usize = 12;
/// The users of the logins that go on in the background: enough that nobody is throttled.
pub(super) const CROWD: u32 = 200;

/// A demo under way.
pub(super) struct Demo<'a> {
    pub(super) say: &'a mut Narrator,
    pub(super) place: &'a Place,
    pub(super) simulators: Simulators,
    pub(super) seed: Option<Seed>,
}

impl<'a> Demo<'a> {
    /// Puts the simulators into the cluster.
    pub(super) fn begin(say: &'a mut Narrator, place: &'a Place) -> Result<Self> {
        say.step(
            "The outside world, simulated",
            "AWS Directory Service with two domain controllers and an AD Connector, Duo and Okta: they speak the real protocols,\n\
             so that what runs below is the shipped product with only the endpoints changed.",
        );
        let images = &place.images;
        let simulators = say.waiting("simulators", || {
            Simulators::deploy(&place.kubectl, &images.simulators, &images.pull_policy)
        })?;
        simulators.duo().generate_users("user", CROWD, 300)?;
        say.kubectl(&place.kubectl, &["-n", SIMULATED, "get", "pods", "-o", "wide"])?;
        Ok(Self {
            say,
            place,
            simulators,
            seed: None,
        })
    }

    /// All the steps after that.
    pub(super) fn run(&mut self) -> Result<()> {
        self.install()?;
        self.apply()?;
        self.ready()?;
        self.registered()?;
        self.push_approved()?;
        self.totp()?;
        self.push_denied()?;
        self.pod_lost()?;
        self.secret_changed()
    }

    fn install(&mut self) -> Result<()> {
        self.say.step(
            "The operator, installed with Helm",
            "One command. The grant says which namespace may use which directories.",
        );
        let install = Install {
            kubectl: &self.place.kubectl,
            helm: &self.place.helm,
            chart: self.place.chart.clone(),
            images: &self.place.images,
            without_dns: self.place.without_dns,
            describe_every: None,
        };
        install.prepare()?;
        self.say.command(&install.command_line(&self.simulators));
        self.say
            .waiting("helm", || install.run(&self.simulators, &[]).map(drop))?;
        self.say.kubectl(
            &self.place.kubectl,
            &["-n", OPERATOR_NAMESPACE, "get", "pods", "-o", "wide"],
        )?;
        Ok(())
    }

    fn apply(&mut self) -> Result<()> {
        self.say.step(
            "Secrets and two RadiusProxy resources, applied",
            "workspaces: Duo push for an AWS Managed Microsoft AD. vpn: authenticator app (TOTP) for an AD Connector.",
        );
        let enrol = ["totp", "enrol", "--user", "bob", "--issuer", "Demo"];
        self.say.command(&format!(
            "{} {}",
            typed(&self.place.radius_proxy),
            enrol.join(" ")
        ));
        let output = std::process::Command::new(&self.place.radius_proxy)
            .args(enrol)
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "radius-proxy totp enrol: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        self.say.output(&text);
        let uri = text
            .split_whitespace()
            .find(|w| w.starts_with("otpauth://"))
            .context("no otpauth URI")?
            .to_owned();
        self.seed = Some(Seed::from_uri(&uri)?);

        let duo = DuoProxy {
            api_host: format!("{}:8443", self.simulators.duo_host()),
            ca_bundle: self.simulators.duo().ca()?,
            replicas: 2,
        };
        let manifest = duo.manifest();
        let shown = manifest.split("      caBundle").next().unwrap_or_default();
        let secrets = [
            DuoProxy::secrets("the first shared secret"),
            TotpProxy::secrets(&[("bob", &uri)]),
        ];
        self.apply_file("secrets.yaml", &secrets.join("---\n"))?;
        self.apply_file("workspaces.yaml", &manifest)?;
        self.say.output(shown);
        self.apply_file("vpn.yaml", &TotpProxy::manifest())
    }

    /// Writes a manifest to a file and applies that, so that what is shown can be typed again.
    pub(super) fn apply_file(&self, name: &str, manifest: &str) -> Result<()> {
        let folder = &self.place.manifests;
        let path = folder.join(name);
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&path, manifest))
            .with_context(|| format!("cannot write {}", path.display()))?;
        let arguments = ["apply", "--server-side", "-f"];
        self.say
            .command(&format!("kubectl {} {}", arguments.join(" "), typed(&path)));
        let path = path.display().to_string();
        let told = self
            .place
            .kubectl
            .run(&[&arguments[..], &[path.as_str()]].concat())?;
        self.say.output(&told);
        Ok(())
    }

    fn ready(&mut self) -> Result<()> {
        self.say.step(
            "Ready",
            "The operator made a StatefulSet each, waited until the proxies reported their configuration, and only then told\n\
             AWS. AWS asked every domain controller to try every proxy.",
        );
        let kubectl = &self.place.kubectl;
        self.say.command(&format!(
            "kubectl -n {NAMESPACE} wait rp --all --for=condition=Ready --timeout=2m"
        ));
        self.say.waiting("both are Ready", || {
            for name in [DuoProxy::NAME, TotpProxy::NAME] {
                kubectl.wait_for_condition(
                    NAMESPACE,
                    &format!("rp/{name}"),
                    "Ready",
                    Duration::from_secs(120),
                )?;
            }
            Ok(())
        })?;
        self.say.kubectl(kubectl, &["-n", NAMESPACE, "get", "rp"])?;
        self.say
            .kubectl(kubectl, &["-n", NAMESPACE, "get", "pods", "-o", "wide"])?;
        self.note_writes(0)
    }

    fn registered(&mut self) -> Result<()> {
        self.say.step(
            "What AWS has registered",
            "As the (simulated) AWS holds it, and as the resource tells it.",
        );
        for directory in [MICROSOFT_DIRECTORY, CONNECTOR_DIRECTORY] {
            let servers = self.simulators.directory().registered(directory)?;
            let status = self
                .simulators
                .directory()
                .radius_status(directory)?
                .unwrap_or_default();
            ensure!(
                servers.len() == 2,
                "{directory} has {} servers registered, not 2",
                servers.len()
            );
            self.say
                .good(&format!("{directory}: {} ({status})", servers.join(", ")));
        }
        let columns = "custom-columns=NAME:.metadata.name,SERVERS:.status.registeredServers[*].address,\
                       PODS:.status.registeredServers[*].pod,ZONES:.status.registeredServers[*].zone";
        self.say.kubectl(
            &self.place.kubectl,
            &["-n", NAMESPACE, "get", "rp", "-o", columns],
        )?;
        self.say
            .kubectl(&self.place.kubectl, &["-n", NAMESPACE, "get", "events"])?;
        Ok(())
    }

    fn note_writes(&mut self, since: u64) -> Result<()> {
        let directory = self.simulators.directory();
        let mut writes = directory.settings_writes(since, MICROSOFT_DIRECTORY)?;
        writes.extend(directory.settings_writes(since, CONNECTOR_DIRECTORY)?);
        let changing = directory.changing(MICROSOFT_DIRECTORY)?.total_ms
            + directory.changing(CONNECTOR_DIRECTORY)?.total_ms;
        self.say.note_writes(writes.len(), changing);
        Ok(())
    }
}
