//! The steps in which something changes while people log in: a pod is lost, the shared secret is replaced.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use e2e::{BackgroundLogins, DuoProxy, MICROSOFT_DIRECTORY, NAMESPACE, Report, until};

use super::narrator::seconds;
use super::steps::{CROWD, Demo};

impl Demo<'_> {
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
                    over.to.as_deref().unwrap_or("nobody"),
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

    pub(super) fn pod_lost(&mut self) -> Result<()> {
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

    pub(super) fn secret_changed(&mut self) -> Result<()> {
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
