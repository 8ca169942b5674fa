//! The steps of the demo. Each shows something real and fails loudly when it is not so.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use e2e::{
    BackgroundLogins, CONNECTOR_DIRECTORY, DuoProxy, Install, Login, LoginRequest, MICROSOFT_DIRECTORY,
    NAMESPACE, OPERATOR_NAMESPACE, Report, SIMULATED, Seed, Simulators, TotpProxy, code_at, fresh_code,
    until,
};

use super::narrator::{Narrator, seconds};
use super::place::{Place, typed};

/// How many steps there are, the cluster and the images among them.
pub(super) const COUNT: usize = 12;
/// The users of the logins that go on in the background: enough that nobody is throttled.
const CROWD: u32 = 200;

/// A demo under way.
pub(super) struct Demo<'a> {
    pub(super) say: &'a mut Narrator,
    pub(super) place: &'a Place,
    pub(super) simulators: Simulators,
    seed: Option<Seed>,
    used_step: u64,
}

impl<'a> Demo<'a> {
    /// Puts the simulators into the cluster.
    pub(super) fn begin(say: &'a mut Narrator, place: &'a Place) -> Result<Self> {
        say.step(
            "The outside world, simulated",
            "AWS Directory Service with two domain controllers and an AD Connector, and Duo: they speak the real protocols,\n\
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
            used_step: 0,
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
    fn apply_file(&self, name: &str, manifest: &str) -> Result<()> {
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

    fn login(&self, controller: &str, user: &str, typed: &str, shown_as: &str) -> Result<Login> {
        self.say
            .say(&format!("{controller}: {user} logs in and types {shown_as}"));
        let request = LoginRequest {
            username: user.to_owned(),
            password: typed.to_owned(),
            ..LoginRequest::default()
        };
        let login = self.simulators.controller(controller).login(&request)?;
        let text = format!(
            "{} by {} after {}: {}",
            login.outcome,
            login.server.as_deref().unwrap_or("nobody"),
            seconds(Duration::from_millis(login.duration_ms)),
            login.reply_message.as_deref().unwrap_or("(no message)"),
        );
        self.say.good(&text);
        Ok(login)
    }

    fn record(&self, proxy: &str, user: &str) -> Result<()> {
        let selector = format!("radius-mfa.dev/proxy={proxy}");
        let args = [
            "-n",
            NAMESPACE,
            "logs",
            "-l",
            &selector,
            "-c",
            "proxy",
            "--tail=-1",
        ];
        let wanted = format!("\"user\":\"{user}\"");
        let line = until("the login's record", Duration::from_secs(10), || {
            let logs = self.place.kubectl.run(&args)?;
            let found = logs
                .lines()
                .rfind(|line| line.contains(&wanted))
                .map(str::to_owned);
            Ok(found.ok_or_else(|| format!("{} lines without {wanted}", logs.lines().count())))
        })?;
        self.say.command(&format!(
            "kubectl -n {NAMESPACE} logs -l {selector} -c proxy --tail=-1 | grep '{wanted}' | tail -1"
        ));
        self.say.output(&line);
        Ok(())
    }

    fn push_approved(&mut self) -> Result<()> {
        self.say.step(
            "A login, approved by push",
            "For a push, AWS tells people to type their directory password in the MFA field, too. It goes nowhere: not to\n\
             Duo, not to a log.",
        );
        let login = self.login(
            "dc-0",
            "CORP\\alice",
            "my-directory-password",
            "her directory password",
        )?;
        ensure!(login.outcome == "accept", "the login was not accepted: {login:?}");
        self.say.good(&format!(
            "pushes that Duo sent to alice: {}",
            self.simulators.duo().pushes("alice")?
        ));
        self.record(DuoProxy::NAME, "alice")
    }

    fn totp(&mut self) -> Result<()> {
        self.say.step(
            "A login with a code of the authenticator app",
            "The same code a second time is refused.",
        );
        let seed = self.seed.clone().context("no seed")?;
        let (step, code) = fresh_code(&seed)?;
        self.used_step = step;
        let login = self.login("connector-0", "bob", &code, "the code that the app shows")?;
        ensure!(login.outcome == "accept", "the code was not accepted: {login:?}");
        let login = self.login("connector-0", "bob", &code, "the same code again")?;
        ensure!(login.outcome == "reject", "a used code was accepted: {login:?}");
        let next = code_at(&seed, step + 1)?;
        let login = self.login("connector-1", "bob", &next, "the next code")?;
        ensure!(
            login.outcome == "accept",
            "the next code was not accepted: {login:?}"
        );
        self.record(TotpProxy::NAME, "bob")
    }

    fn push_denied(&mut self) -> Result<()> {
        self.say.step(
            "A push that is denied",
            "Somebody knows mallory's name; mallory says no on the phone.",
        );
        let login = self.login("dc-1", "mallory@corp.example.com", "", "nothing")?;
        ensure!(
            login.outcome == "reject",
            "a denied push was not refused: {login:?}"
        );
        self.record(DuoProxy::NAME, "mallory")
    }

    /// Logins once a second from both domain controllers while `during` happens and 12 s after.
    fn with_logins<T>(&self, during: impl FnOnce() -> Result<T>) -> Result<(T, BTreeMap<String, Report>)> {
        let half = CROWD / 2;
        let mut running = BTreeMap::new();
        for (controller, users) in [("dc-0", 0..half), ("dc-1", half..CROWD)] {
            let logins = BackgroundLogins {
                usernames: users.map(|n| format!("user{n}")).collect(),
                password: "push".to_owned(),
                every_ms: 1000,
                for_ms: 300_000,
            };
            running.insert(
                controller.to_owned(),
                self.simulators.controller(controller).begin_logins(&logins)?,
            );
        }
        let done = during()?;
        let mut reports = BTreeMap::new();
        for (controller, id) in running {
            reports.insert(
                controller.clone(),
                self.simulators.controller(&controller).end_logins(&id)?,
            );
        }
        Ok((done, reports))
    }

    /// Waits until some logins more were begun, so that what comes after a change is seen, too.
    fn let_logins_go_on(&self) -> Result<()> {
        let since = Instant::now();
        until("logins to go on for 5 s", Duration::from_secs(30), || {
            let passed = since.elapsed();
            Ok(if passed >= Duration::from_secs(5) {
                Ok(())
            } else {
                Err(seconds(passed))
            })
        })
    }

    fn show_reports(&self, reports: &BTreeMap<String, Report>) -> Result<()> {
        for (controller, report) in reports {
            self.say.good(&format!(
                "{controller}: {} logins, {} accepted, {} refused, {} without an answer; slowest {}; {} while AWS was \
                 changing settings",
                report.tried,
                report.accepted,
                report.rejected,
                report.failed,
                seconds(Duration::from_millis(report.slowest_ms.unwrap_or(0))),
                report.would_have_been_refused,
            ));
            for over in report.fail_overs.iter().take(3) {
                self.say.say(&format!(
                    "{controller}: after {} failed over from {} to {} in {}",
                    seconds(Duration::from_millis(over.at_ms)),
                    over.from.join(", "),
                    over.to,
                    seconds(Duration::from_millis(over.duration_ms)),
                ));
            }
            if let Some(bad) = report.failures.iter().chain(&report.rejections).next() {
                bail!("a login failed at the proxies: {bad:?}");
            }
            ensure!(
                report.accepted == report.tried,
                "{} of {} accepted",
                report.accepted,
                report.tried
            );
        }
        Ok(())
    }

    fn pod_lost(&mut self) -> Result<()> {
        self.say.step(
            "A pod is lost while people log in",
            "Both domain controllers try a login every second. The pod they prefer is deleted; its successor has another\n\
             address, and the operator registers it with one write.",
        );
        let before = self.simulators.directory().last_write()?;
        let changing = self.changing()?;
        let old = self.simulators.directory().registered(MICROSOFT_DIRECTORY)?;
        let pod = format!("{}-0", DuoProxy::NAME);
        let (took, reports) = self.with_logins(|| {
            self.let_logins_go_on()?;
            self.say.kubectl(
                &self.place.kubectl,
                &["-n", NAMESPACE, "delete", "pod", &pod, "--wait=false"],
            )?;
            let deleted = Instant::now();
            let new = until(
                "the new address to be registered",
                Duration::from_secs(120),
                || {
                    let now = self.simulators.directory().registered(MICROSOFT_DIRECTORY)?;
                    let status = self.simulators.directory().radius_status(MICROSOFT_DIRECTORY)?;
                    let settled =
                        now != old && now.len() == old.len() && status.as_deref() == Some("Completed");
                    Ok(if settled {
                        Ok(now)
                    } else {
                        Err(format!("{} ({status:?})", now.join(", ")))
                    })
                },
            )?;
            let took = deleted.elapsed();
            self.say.good(&format!(
                "{} became {} after {}",
                old.join(", "),
                new.join(", "),
                seconds(took)
            ));
            self.let_logins_go_on()?;
            Ok(took)
        })?;
        self.show_reports(&reports)?;
        self.say.good(&format!(
            "from the pod's deletion to the new address registered: {}",
            seconds(took)
        ));
        self.note_changes(before, changing)?;
        self.say
            .kubectl(&self.place.kubectl, &["-n", NAMESPACE, "get", "rp"])
            .map(drop)
    }

    fn secret_changed(&mut self) -> Result<()> {
        self.say.step(
            "The shared secret is changed while people log in",
            "Only the Secret is changed. The proxies accept the old and the new one, then AWS is told. A minute after AWS has\n\
             completed they drop the old one, which the demo does not wait for. No pod restarts.",
        );
        let before = self.simulators.directory().last_write()?;
        let changing = self.changing()?;
        let secret = "the second shared secret";
        let wanted = self.simulators.directory().digest(secret)?;
        let ((), reports) = self.with_logins(|| {
            self.let_logins_go_on()?;
            self.apply_file("new-secret.yaml", &DuoProxy::shared_secret(secret))?;
            until("AWS to hold the new secret", Duration::from_secs(120), || {
                let writes = self
                    .simulators
                    .directory()
                    .settings_writes(before, MICROSOFT_DIRECTORY)?;
                let holds =
                    writes.last().and_then(|w| w.shared_secret_digest.as_deref()) == Some(wanted.as_str());
                let status = self.simulators.directory().radius_status(MICROSOFT_DIRECTORY)?;
                let done = holds && status.as_deref() == Some("Completed");
                Ok(if done {
                    Ok(())
                } else {
                    Err(format!("{} writes, status {status:?}", writes.len()))
                })
            })?;
            self.let_logins_go_on()
        })?;
        self.show_reports(&reports)?;
        self.note_changes(before, changing)?;
        let restarts = "custom-columns=NAME:.metadata.name,RESTARTS:.status.containerStatuses[*].restartCount,AGE:.status.startTime";
        self.say
            .kubectl(
                &self.place.kubectl,
                &["-n", NAMESPACE, "get", "pods", "-o", restarts],
            )
            .map(drop)
    }

    fn changing(&self) -> Result<u64> {
        Ok(self
            .simulators
            .directory()
            .changing(MICROSOFT_DIRECTORY)?
            .total_ms)
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

    /// Says how many writes AWS saw since, and for how long it was changing settings.
    fn note_changes(&mut self, since: u64, changing_before: u64) -> Result<()> {
        let writes = self
            .simulators
            .directory()
            .settings_writes(since, MICROSOFT_DIRECTORY)?;
        let changing = self.changing()?.saturating_sub(changing_before);
        self.say.good(&format!(
            "writes that AWS saw: {} ({}); it was changing settings for {}",
            writes.len(),
            writes
                .iter()
                .map(|w| w.operation.as_str())
                .collect::<Vec<_>>()
                .join(", "),
            seconds(Duration::from_millis(changing)),
        ));
        self.say.note_writes(writes.len(), changing);
        Ok(())
    }
}
