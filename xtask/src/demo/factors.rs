//! The steps that show one login each: a push, a code, a push that is denied.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::{DuoProxy, Login, LoginRequest, NAMESPACE, TotpProxy, code_at, fresh_code, until};

use super::narrator::seconds;
use super::steps::Demo;

impl Demo<'_> {
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

    pub(super) fn push_approved(&mut self) -> Result<()> {
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

    pub(super) fn totp(&mut self) -> Result<()> {
        self.say.step(
            "A login with a code of the authenticator app",
            "The same code a second time is refused.",
        );
        let seed = self.seed.clone().context("no seed")?;
        let (step, code) = fresh_code(&seed)?;
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

    pub(super) fn push_denied(&mut self) -> Result<()> {
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
}
