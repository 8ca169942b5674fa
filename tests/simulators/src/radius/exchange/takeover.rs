//! A login that another domain controller of the directory continues.

use std::net::{IpAddr, SocketAddr};

use tokio::sync::mpsc;

use super::{Login, LoginResult, PacketRecord, TOLD};
use crate::{
    ask, clock,
    directory::{Failover, RadiusClient},
};

/// What a login that another controller continues may take.
const LONGEST_LOGIN: std::time::Duration = std::time::Duration::from_secs(700);

impl Login<'_> {
    /// Continues from another address, with nothing of what this one sent: its sockets are closed, and answers to them are lost.
    pub(super) fn move_to(&mut self, source: IpAddr) {
        self.listeners.abort_all();
        self.heard = mpsc::channel(64);
        for peer in &mut self.peers {
            peer.sent.clear();
            peer.socket = None;
        }
        self.taken_over = Some(source);
        self.result.taken_over_by = Some(source.to_string());
    }

    /// Lets another controller continue with the tries that are left, and tells of it as of this login.
    pub(super) async fn hand_over(&mut self, other: SocketAddr, left: usize) {
        self.listeners.abort_all();
        let at = self.began.elapsed();
        let rest = |ms: u64| match ms {
            0 => 0,
            ms => ms.saturating_sub(clock::ms(at)).max(1),
        };
        let client = RadiusClient {
            takeover_after_ms: 0,
            patience_ms: rest(self.plan.client.patience_ms),
            budget_ms: rest(self.plan.client.budget_ms),
            ..self.plan.client.clone()
        };
        let retries = match client.failover {
            Failover::AfterRetries => left / self.peers.len().max(1),
            Failover::PerAttempt => left,
        };
        let request = serde_json::json!({
            "username": self.user, "password": self.password, "protocol": self.plan.protocol,
            "timeout_s": self.plan.timeout.as_secs_f64(), "retries": retries, "servers": self.plan.servers,
            "port": self.plan.port, "shared_secret": self.plan.secret.expose(), "radius_client": client,
        });
        let url = format!("http://{other}/login");
        let answer = ask::post_within::<LoginResult>(self.names, &url, &request, LONGEST_LOGIN).await;
        self.result.taken_over_by = Some(other.ip().to_string());
        match answer {
            Ok(theirs) => self.continue_as(theirs, clock::ms(at)),
            Err(error) => self.result.error = Some(error.to_string()),
        }
    }

    fn continue_as(&mut self, theirs: LoginResult, at_ms: u64) {
        let ours = std::mem::take(&mut self.result);
        self.result = LoginResult {
            attempts: ours.attempts + theirs.attempts,
            failed_over: ours.failed_over || theirs.failed_over,
            started: ours.started,
            taken_over_by: ours.taken_over_by,
            packets: ours.packets,
            ..theirs
        };
        let later = theirs.packets.into_iter().map(|packet| PacketRecord {
            offset_ms: packet.offset_ms + at_ms,
            ..packet
        });
        self.result.packets.extend(later);
        self.result.packets.truncate(TOLD);
    }
}
