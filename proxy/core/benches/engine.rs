//! What a login costs the engine: time from datagram to answer with a passcode judged at once, and memory while a push
//! waits. `cargo bench -p proxy-core`.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::Md5;
use proxy_config::file::ConfigFile;
use proxy_config::{Config, Secret};
use proxy_core::factor::{Approval, Basis, Factor, Verdict};
use proxy_core::outputs::{Outputs, SocketId};
use proxy_core::{Engine, Now, Settings};
use radius::core::avp::AVP;

const SECRET: &[u8] = b"testing123";
const LOGINS: u32 = 200_000;
const PENDING: u32 = 20_000;

fn settings(provider: &str) -> Option<Settings> {
    let text = format!(
        "{provider}\n[policy.limits]\nrequests_per_client_per_second = 1000000\npending = 100000\n\
         [[clients]]\nname = \"bench\"\nnetworks = [\"127.0.0.0/8\"]\nsecret_files = [\"secret\"]\n"
    );
    let contents: BTreeMap<_, _> = ["secret", "ikey", "skey"]
        .map(|path| (path.to_owned(), Secret::new(SECRET.to_vec())))
        .into();
    let config = Config::check(&ConfigFile::parse(&text).ok()?, &contents).ok()?;
    Settings::check(Arc::new(config)).ok()
}

/// An Access-Request with PAP and Message-Authenticator for the user of a number.
fn request(number: u32, text: &str) -> Option<Vec<u8>> {
    let mut authenticator = [0x5a; 16];
    authenticator
        .first_chunk_mut::<4>()?
        .copy_from_slice(&number.to_be_bytes());
    let user = format!("u{number:07}");
    let password = AVP::from_user_password(2, text.as_bytes(), SECRET, &authenticator).ok()?;
    let mut bytes = vec![1, u8::try_from(number % 256).ok()?, 0, 66];
    bytes.extend(authenticator);
    bytes.extend([80, 18]);
    bytes.extend([0; 16]);
    bytes.extend([1, 10]);
    bytes.extend(user.bytes());
    bytes.extend([2, 18]);
    bytes.extend(password.encode_bytes());
    let mut mac = Hmac::<Md5>::new_from_slice(SECRET).ok()?;
    mac.update(&bytes);
    bytes
        .get_mut(22..38)?
        .copy_from_slice(&mac.finalize().into_bytes());
    Some(bytes)
}

fn source(number: u32) -> SocketAddr {
    SocketAddr::from((
        [127, 0, 0, 1],
        u16::try_from(20_000 + number / 256 % 1000).unwrap_or(20_000),
    ))
}

fn now(microseconds: u64) -> Now {
    let time = Duration::from_micros(microseconds);
    Now {
        monotonic: time,
        unix: time,
    }
}

fn approved() -> Verdict {
    Verdict::Approved(Approval {
        factor: Factor::Passcode,
        basis: Basis::Factor,
        message: None,
        found_text: None,
        attributes: Vec::new(),
    })
}

fn resident_kib() -> Option<u64> {
    let status = std::fs::File::open("/proc/self/status").ok()?;
    let text = std::io::read_to_string(status).ok()?;
    let line = text.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// What this thread has had of a processor: other programs on the machine do not count.
fn processor_time() -> Option<Duration> {
    let file = std::fs::File::open("/proc/thread-self/schedstat").ok()?;
    let text = std::io::read_to_string(file).ok()?;
    Some(Duration::from_nanos(
        text.split_whitespace().next()?.parse().ok()?,
    ))
}

fn passcodes() -> Option<()> {
    let mut engine = Engine::new(settings("[provider.totp]\nseed_folders = [\"seeds\"]")?, [1; 32]);
    let requests: Vec<_> = (0..LOGINS)
        .map(|number| request(number, "123456"))
        .collect::<Option<_>>()?;
    let (mut out, mut asks, mut bytes) = (Outputs::new(), Vec::new(), 0);
    let started = processor_time()?;
    for (number, request) in (0..).zip(&requests) {
        let now = now(u64::from(number) * 10);
        engine.receive(now, source(number), SocketId(0), request, &mut out);
        std::mem::swap(&mut asks, &mut out.asks);
        for ask in asks.drain(..) {
            engine.verdict(now, black_box(ask).login, approved(), &mut out);
        }
        bytes += out
            .datagrams()
            .map(|datagram| datagram.bytes.len())
            .sum::<usize>();
        out.clear();
    }
    let each = (processor_time()? - started) / LOGINS;
    println!("passcode by PAP, signed: {each:?} of processor time for each login, {bytes} bytes answered");
    println!("resident: {} KiB", resident_kib()?);
    Some(())
}

fn pushes() -> Option<()> {
    let duo = "[provider.duo]\napi_host = \"api-1.duosecurity.com\"\nintegration_key_file = \"ikey\"\n\
               secret_key_file = \"skey\"";
    let mut engine = Engine::new(settings(duo)?, [1; 32]);
    let requests: Vec<_> = (0..PENDING)
        .map(|number| request(number, "push"))
        .collect::<Option<_>>()?;
    let mut out = Outputs::new();
    let before = resident_kib()?;
    for (number, request) in (0..).zip(&requests) {
        engine.receive(
            now(u64::from(number)),
            source(number),
            SocketId(0),
            request,
            &mut out,
        );
        out.clear();
    }
    let grown = resident_kib()?.saturating_sub(before) * 1024 / u64::from(PENDING);
    println!("{} pushes wait: {grown} bytes for each", engine.pending());
    Some(())
}

fn main() -> std::process::ExitCode {
    match pushes().and_then(|()| passcodes()) {
        Some(()) => std::process::ExitCode::SUCCESS,
        None => std::process::ExitCode::FAILURE,
    }
}
