//! preauth, auth, auth_status.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Call, Entry, Simulator,
    account::Account,
    failure::Failure,
    service::millis,
    settings::{Behaviour, Device, DeviceType, LongPollEnd, PushDelivery, Settings, Status, Unknown},
    transaction::{self, About, State, Timeline, Transaction},
};
use crate::clock;

/// Duo's own bound on pushinfo, in bytes.
const PUSHINFO: usize = 20_000;

impl Simulator {
    /// The user a call is about, for fault rules.
    pub(super) fn user_of(&self, call: &Call) -> Option<String> {
        match (
            call.get("username").or_else(|| call.get("user_id")),
            call.get("txid"),
        ) {
            (Some(name), _) => Some(name.to_owned()),
            (None, Some(txid)) => self.transactions.find(txid).map(|found| found.about.user.clone()),
            (None, None) => None,
        }
    }

    fn account_of(&self, call: &Call) -> Result<(String, Option<Arc<Account>>), Failure> {
        match (call.get("username"), call.get("user_id")) {
            (Some(_), Some(_)) => Err(Failure::about(40002, "username")),
            (None, None) => Err(Failure::about(40001, "username")),
            (Some(name), None) => Ok((name.to_owned(), self.accounts.find(name))),
            (None, Some(id)) => {
                let account = self
                    .accounts
                    .find_id(id)
                    .ok_or_else(|| Failure::about(40002, "user_id"))?;
                Ok((account.user.name.clone(), Some(account)))
            }
        }
    }

    pub(super) fn preauth(&self, call: &Call) -> Result<Value, Failure> {
        let settings = self.settings();
        let (name, account) = self.account_of(call)?;
        let status = account.as_ref().map(|account| account.status());
        let verified = call
            .get("client_supports_verified_push")
            .is_some_and(|value| value != "false" && value != "0");
        let hide_push = settings.verified_push && !verified;
        let answer = match (status, settings.unknown_users) {
            (Some(Status::Active), _) => {
                let devices: Vec<Value> = account
                    .iter()
                    .flat_map(|account| &account.devices)
                    .map(|device| shown(device, hide_push))
                    .collect();
                json!({"result": "auth", "status_msg": "Account is active", "devices": devices})
            }
            (Some(Status::Bypass), _) | (None, Unknown::Allow) => {
                json!({"result": "allow", "status_msg": "Valid user: bypass"})
            }
            (Some(Status::Disabled | Status::LockedOut), _) | (None, Unknown::Deny) => {
                json!({"result": "deny", "status_msg": transaction::LOCKED_OUT.status_msg})
            }
            (Some(Status::Unenrolled), _) | (None, Unknown::Enroll) => json!({
                "result": "enroll",
                "status_msg": "Enroll an authentication device to proceed",
                "enroll_portal_url": format!("https://localhost/portal?code={name}"),
            }),
        };
        if let Some(account) = account {
            account.count(|counts| counts.preauths += 1);
        }
        let result = answer
            .get("result")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        self.note(call, &name, &result, "", None);
        Ok(answer)
    }

    pub(super) async fn auth(&self, call: &Call) -> Result<Value, Failure> {
        let settings = self.settings();
        let (name, account) = self.account_of(call)?;
        let factor = call.required("factor")?;
        if !["auto", "push", "passcode", "sms", "phone"].contains(&factor) {
            return Err(Failure::about(40002, "factor"));
        }
        if call.get("pushinfo").is_some_and(|info| info.len() >= PUSHINFO) {
            return Err(Failure::about(40002, "pushinfo"));
        }
        let Some(account) = account else {
            let state = match settings.unknown_users {
                Unknown::Allow => transaction::BYPASS,
                Unknown::Deny | Unknown::Enroll => transaction::DENY,
            };
            return self
                .settle(call, &name, Arc::default(), vec![(millis(0), state)])
                .await;
        };
        let timeline = match account.status() {
            Status::Active => self.factor(call, &settings, factor, &account)?,
            Status::Bypass => vec![(millis(0), transaction::BYPASS)],
            Status::LockedOut | Status::Disabled => vec![(millis(0), transaction::LOCKED_OUT)],
            Status::Unenrolled => vec![(millis(0), transaction::DENY)],
        };
        self.settle(call, &name, account, timeline).await
    }

    fn factor(
        &self,
        call: &Call,
        settings: &Settings,
        factor: &str,
        account: &Account,
    ) -> Result<Timeline, Failure> {
        let wanted = call.get("device");
        let device = |capability: &str| {
            let wanted = wanted.ok_or_else(|| Failure::about(40001, "device"))?;
            let found = account.device(wanted, capability, settings.verified_push);
            found.ok_or_else(|| Failure::about(40002, "device"))
        };
        let within_rate = || match account.within_rate(settings.pushes_per_minute) {
            true => Ok(()),
            false => Err(Failure::new(42901)),
        };
        let user = &account.user;
        let (delay, timeout) = (millis(user.delay_ms), millis(settings.push_timeout_ms));
        let push = |device: &Device| {
            within_rate()?;
            account.count(|counts| counts.pushes += 1);
            Ok(transaction::push(user.answer, delay, timeout, device.push))
        };
        let ring = || {
            within_rate()?;
            account.count(|counts| counts.calls += 1);
            Ok(transaction::call(user.answer, delay, timeout))
        };
        match factor {
            "passcode" => {
                let code = call.required("passcode")?;
                Ok(vec![(
                    millis(0),
                    account.try_passcode(code, settings.lockout_failures),
                )])
            }
            "sms" => {
                device("sms")?;
                account.text_codes();
                Ok(vec![(millis(0), transaction::SENT)])
            }
            "phone" => device("phone").and_then(|_| ring()),
            "push" => push(device("push")?),
            _ => {
                // The factor that Duo recommends: a push where one can be sent.
                let wanted = wanted.unwrap_or("auto");
                let can = |capability: &str| account.device(wanted, capability, settings.verified_push);
                match (can("push"), can("phone")) {
                    (Some(device), _) if device.push == PushDelivery::Ok => push(device),
                    (_, Some(_)) => ring(),
                    (Some(device), None) => push(device),
                    (None, None) => Err(Failure::about(40002, "device")),
                }
            }
        }
    }

    /// Answers at once with a transaction's id, or later with its end.
    async fn settle(
        &self,
        call: &Call,
        name: &str,
        account: Arc<Account>,
        timeline: Timeline,
    ) -> Result<Value, Failure> {
        let asynchronous = call
            .get("async")
            .is_some_and(|value| value == "1" || value == "true");
        let text = |parameter: &str| call.get(parameter).unwrap_or_default().to_owned();
        let about = About {
            ikey: call.ikey.clone(),
            user: name.to_owned(),
            device: text("device"),
            factor: text("factor"),
            kind: text("type"),
            display_username: text("display_username"),
            pushinfo: text("pushinfo"),
            ipaddr: text("ipaddr"),
            hostname: text("hostname"),
        };
        let txid = uuid::Uuid::new_v4().to_string();
        let passing = timeline.iter().all(|(_, state)| state.is_final());
        let transaction = Arc::new(Transaction::new(txid.clone(), account, about, timeline));
        self.transactions
            .add(Arc::clone(&transaction))
            .map_err(|()| Failure::new(50000))?;
        if asynchronous {
            let state = transaction.state();
            let (result, status) = if passing {
                (state.result, state.status)
            } else {
                ("waiting", state.status)
            };
            self.note(call, name, result, status, Some(&txid));
            return Ok(json!({"txid": txid}));
        }
        let state = match passing {
            // Neither a push nor a call: nothing to count as approved.
            true => transaction.state(),
            false => transaction.end().await,
        };
        self.note(call, name, state.result, state.status, Some(&txid));
        Ok(told(state))
    }

    pub(super) async fn auth_status(&self, call: &Call) -> Result<Value, Failure> {
        let settings = self.settings();
        let txid = call.required("txid")?;
        let transaction = self
            .transactions
            .find(txid)
            .filter(|found| found.about.ikey == call.ikey)
            .ok_or_else(|| Failure::about(40002, "txid"))?;
        let until = Instant::now() + millis(settings.long_poll_ms);
        match transaction.news(until).await {
            Some(state) => Ok(told(state)),
            None if settings.long_poll_end == LongPollEnd::Error => Err(Failure::about(40002, "txid")),
            None => Ok(told(transaction.state())),
        }
    }

    fn note(&self, call: &Call, user: &str, result: &str, status: &str, txid: Option<&str>) {
        let text = |parameter: &str| call.get(parameter).unwrap_or_default().to_owned();
        let passcode = call.get("passcode").unwrap_or_default();
        self.journal(|journal| {
            journal.add(Entry {
                time: clock::rfc3339(jiff::Timestamp::now()),
                endpoint: call.endpoint,
                user: user.to_owned(),
                factor: text("factor"),
                device: text("device"),
                kind: text("type"),
                display_username: text("display_username"),
                pushinfo: text("pushinfo"),
                ipaddr: text("ipaddr"),
                hostname: text("hostname"),
                passcode_length: passcode.chars().count(),
                passcode_is_digits: !passcode.is_empty()
                    && passcode.bytes().all(|byte| byte.is_ascii_digit()),
                txid: txid.unwrap_or_default().to_owned(),
                result: result.to_owned(),
                status: status.to_owned(),
                user_agent: call.user_agent.clone(),
                ikey: call.ikey.clone(),
                signature: call.signature,
            })
        });
    }

    /// What a person does with a pending push, from the admin API.
    pub(super) fn decide(&self, txid: &str, answer: Behaviour) -> Result<bool, ()> {
        self.transactions
            .find(txid)
            .map(|transaction| transaction.decide(answer))
            .ok_or(())
    }
}

impl Default for Account {
    fn default() -> Self {
        Self::new(super::settings::User::default())
    }
}

fn told(state: State) -> Value {
    json!({"result": state.result, "status": state.status, "status_msg": state.status_msg})
}

/// A device in preauth.
fn shown(device: &Device, hide_push: bool) -> Value {
    if device.kind == DeviceType::Token {
        return json!({"device": device.id, "type": "token", "name": device.name});
    }
    let digits: Vec<char> = device.number.chars().filter(char::is_ascii_digit).collect();
    let tail: String = digits.iter().rev().take(4).rev().collect();
    let number = format!("XXX-XXX-{tail}");
    let capabilities: Vec<&String> = device
        .capabilities
        .iter()
        .filter(|capability| !hide_push || *capability != "push")
        .collect();
    json!({
        "device": device.id,
        "type": "phone",
        "name": device.name,
        "number": number,
        "display_name": format!("Phone ({number})"),
        "capabilities": capabilities,
    })
}
