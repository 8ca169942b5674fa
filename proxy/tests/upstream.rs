//! The shipped binary in front of a RADIUS server that rings phones and knows no Status-Server, as NPS does.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a test ends where it finds something wrong"
)]

mod support;

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use md5::{Digest as _, Md5};
use radius::core::packet::Packet;
use radius::core::rfc2865;
use support::{Answer, Lab, Login, Proxy, eventually, hmac_md5};

const UPSTREAM_SECRET: &str = "the secret of the NPS";
/// How long people need for a phone: longer than all tries below, and shorter than the client waits.
const PHONE: Duration = Duration::from_secs(2);

/// Accepts everybody whose name begins with `quick`, when the phone was picked up; nobody else is answered.
fn start_nps() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let port = socket.local_addr().unwrap().port();
    thread::spawn(move || {
        // The newest packet of each identifier and port, and when its phone is picked up.
        let mut rings = BTreeMap::new();
        let mut buffer = [0; 4096];
        loop {
            if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let packet = Packet::decode(&buffer[..length], UPSTREAM_SECRET.as_bytes()).unwrap();
                let user = rfc2865::lookup_user_name(&packet).unwrap().unwrap();
                if user.starts_with("quick") {
                    let picked_up = Instant::now() + PHONE;
                    rings
                        .entry((from, buffer[1]))
                        .or_insert((buffer[..length].to_vec(), picked_up));
                }
            }
            rings.retain(|(from, _), (request, picked_up)| {
                let rings_on = Instant::now() < *picked_up;
                if !rings_on {
                    socket.send_to(&accept(request), *from).unwrap();
                }
                rings_on
            });
        }
    });
    port
}

fn accept(request: &[u8]) -> Vec<u8> {
    let mut answer = [&[2, request[1], 0, 38], &request[4..20], &[80, 18], &[0; 16]].concat();
    let mac = hmac_md5(UPSTREAM_SECRET, &answer);
    answer[22..38].copy_from_slice(&mac);
    let digest = Md5::digest([&answer, UPSTREAM_SECRET.as_bytes()].concat());
    answer[4..20].copy_from_slice(&digest);
    answer
}

#[test]
fn pushes_that_nobody_answers_keep_no_later_login_from_having_its_time() {
    let port = start_nps();
    let lab = Lab::new(&format!(
        "[provider.radius]\ntimeout_seconds = 1\ntries = 1\nstatus_server = false\n\
         [[provider.radius.servers]]\naddress = \"127.0.0.1:{port}\"\nsecret_file = \"upstream-secret\"\n"
    ));
    lab.write("upstream-secret", UPSTREAM_SECRET);
    let proxy = Proxy::start(&lab);
    let logged = |text: &str| eventually(text, || proxy.log().contains(text).then_some(()));

    let _jane = Login::new("jane", "").send(proxy.radius);
    logged("an upstream server was given up for a login");
    assert_eq!(proxy.login("quick-joe", ""), Answer::Accept);
    assert!(!proxy.log().contains("an upstream server does not answer"));

    // Several at once, and nobody is answered: now it counts as down, and is asked all the same.
    let _others = ["ann", "bob", "kim"].map(|user| Login::new(user, "").send(proxy.radius));
    logged("an upstream server does not answer");
    assert_eq!(proxy.login("quick-tom", ""), Answer::Accept);
    logged("an upstream server answers again");
}
