//! The secret shared with RADIUS servers that decide. A server knows one secret of a client, so it is replaced at one
//! server after the other, while the other answers.

use e2e::{NAMESPACE, until};
use serde_json::json;

use super::{pods, until_run};
use crate::freeradius::{FreeRadius, own_address};
use crate::site::{Site, radius_proxy, secret};
use crate::traffic::{assert_nobody_noticed, with_logins_at};
use crate::world::{PATIENCE, world};

const FIRST: &str = "the-first-secret-of-the-upstream";
const SECOND: &str = "the-second-secret-of-the-upstream";
/// By server: the Secret, and the port.
const SERVERS: [(&str, u16); 2] = [("upstream-a", 18_121), ("upstream-b", 18_122)];

/// Waits until a server has said something once more than `before` times.
fn says(server: &FreeRadius, words: &str) {
    let what = format!("{} to say {words:?}", server.port);
    let before = server.said(words);
    until(&what, PATIENCE, || {
        let now = server.said(words);
        Ok(if now > before {
            Ok(())
        } else {
            Err(format!("{now} times"))
        })
    })
    .unwrap();
}

#[test]
fn an_upstreams_secret_is_replaced_without_a_write_a_restart_or_a_login_lost() {
    let (world, name, id) = (world(), "upstream", "d-90670000c3");
    world.both_ready().unwrap();
    let address = own_address(world);
    let mut upstreams = SERVERS.map(|(_, port)| FreeRadius::start(address, port, FIRST));
    let site = Site::new(id);
    site.directory(&json!({"type": "MicrosoftAD", "name": "upstream.example.com"}));
    site.domain_controllers("upstream-dc");
    site.grant(name, NAMESPACE);
    let shared = |name: &str, text: &str| secret(name, NAMESPACE, &json!({ "secret": text }));
    for (secret, _) in SERVERS {
        site.apply(NAMESPACE, &shared(secret, FIRST));
    }
    let servers = SERVERS
        .map(|(secret, port)| json!({"address": format!("{address}:{port}"), "secretRef": {"name": secret}}));
    let provider = json!({"radius": {"servers": servers, "timeoutSeconds": 2, "tries": 2}});
    site.apply(NAMESPACE, &radius_proxy(name, NAMESPACE, id, &provider));
    world.ready(NAMESPACE, name).unwrap();
    let directory = world.simulators.directory();
    let (writes_before, pods_before) = (directory.last_write().unwrap(), pods(world, name));
    let ((), reports) = with_logins_at(world, ["upstream-dc-0", "upstream-dc-1"], || {
        for (server, (secret, _)) in upstreams.iter_mut().zip(SERVERS) {
            server.restart(SECOND);
            says(server, "Shared secret is incorrect");
            until_run(world, name, || {
                world.kubectl.apply(&shared(secret, SECOND)).map(drop)
            })
            .unwrap();
            says(server, "Sent Access-Accept");
        }
    });
    assert_nobody_noticed(&reports);
    let writes = directory.settings_writes(writes_before, id).unwrap();
    assert!(writes.is_empty(), "{writes:?}");
    assert_eq!(pods(world, name), pods_before);
}
