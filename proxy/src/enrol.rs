//! `radius-proxy totp enrol`: new keys, as URIs, QR codes and a Secret's manifest.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal as _, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use proxy_config::Secret;
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

use crate::cli::{EnrolArgs, Qr};
use crate::error::Error;
use crate::provider::totp::KeyUri;

const MAX_USERS: usize = 1_000_000;

/// Makes the keys and prints them.
///
/// # Errors
/// A user's name that cannot stand in a URI, a CSV file that cannot be read, or output that cannot be written.
pub fn enrol(args: &EnrolArgs) -> Result<(), Error> {
    let users = users(args)?;
    let uris = users
        .iter()
        .map(|user| new_key(user, args))
        .collect::<Result<Vec<_>, _>>()?;
    let manifest = args
        .secret_name
        .as_deref()
        .map(|name| manifest(name, args, &users, &uris))
        .transpose()?;
    if let Some(manifest) = manifest {
        io::stdout()
            .write_all(manifest.as_bytes())
            .map_err(Error::Write)?;
        if args.user.is_some() {
            show(&mut io::stderr(), io::stderr().is_terminal(), args.qr, &uris)?;
        }
        return Ok(());
    }
    show(&mut io::stdout(), io::stdout().is_terminal(), args.qr, &uris)
}

fn users(args: &EnrolArgs) -> Result<Vec<String>, Error> {
    let users = match (&args.user, &args.csv) {
        (Some(user), _) => vec![user.clone()],
        (None, Some(path)) => from_csv(path)?,
        (None, None) => Vec::new(),
    };
    let mut seen = BTreeSet::new();
    for user in &users {
        if user.trim().is_empty() || user.contains(':') || user.chars().any(char::is_control) {
            return Err(Error::Enrol(format!(
                "{user:?} cannot be a user's name in an otpauth:// URI: it must not be empty, nor hold ':' or control \
                 characters"
            )));
        }
        if !seen.insert(user.to_lowercase()) {
            return Err(Error::Enrol(format!(
                "{user:?} is listed twice; nobody can have two keys"
            )));
        }
    }
    if users.is_empty() {
        return Err(Error::Enrol("the list holds no user".to_owned()));
    }
    Ok(users)
}

fn from_csv(path: &std::path::Path) -> Result<Vec<String>, Error> {
    let wrong = |error: csv::Error| Error::Enrol(format!("{}: {error}", path.display()));
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_path(path)
        .map_err(wrong)?;
    let mut users = Vec::new();
    for (number, row) in reader.records().enumerate() {
        let row = row.map_err(wrong)?;
        let user = row.get(0).unwrap_or_default();
        let is_header = number == 0 && user.eq_ignore_ascii_case("user");
        if user.is_empty() || is_header {
            continue;
        }
        if users.len() >= MAX_USERS {
            return Err(Error::Enrol(format!(
                "{} lists more than {MAX_USERS} users",
                path.display()
            )));
        }
        users.push(user.to_owned());
    }
    Ok(users)
}

fn new_key(user: &str, args: &EnrolArgs) -> Result<Secret, Error> {
    let mut key = vec![0; args.algorithm.seed_bytes()];
    getrandom::fill(&mut key).map_err(Error::Random)?;
    let uri = KeyUri {
        account: user.trim().to_owned(),
        issuer: Some(args.issuer.replace(':', " ")).filter(|issuer| !issuer.trim().is_empty()),
        seed: Secret::new(key),
        algorithm: args.algorithm,
        digits: args.digits,
        period: args.period,
    };
    Ok(uri.to_text())
}

fn text(uri: &Secret) -> &str {
    uri.expose_str().unwrap_or_default()
}

fn show(out: &mut impl Write, is_terminal: bool, qr: Qr, uris: &[Secret]) -> Result<(), Error> {
    let draws = match qr {
        Qr::Always => true,
        Qr::Never => false,
        Qr::Auto => is_terminal && uris.len() == 1,
    };
    let colour = is_terminal && std::env::var_os("NO_COLOR").is_none();
    for uri in uris {
        writeln!(out, "{}", text(uri)).map_err(Error::Write)?;
        if draws {
            let picture = draw(text(uri), colour)?;
            writeln!(out, "\n{picture}").map_err(Error::Write)?;
        }
    }
    out.flush().map_err(Error::Write)
}

/// With colours, black on white whatever the terminal's are; without, light modules are drawn, for the usual light
/// text on dark ground.
fn draw(uri: &str, colour: bool) -> Result<String, Error> {
    let code =
        QrCode::new(uri).map_err(|error| Error::Enrol(format!("the QR code cannot be drawn: {error}")))?;
    let mut renderer = code.render::<Dense1x2>();
    if !colour {
        renderer.dark_color(Dense1x2::Light).light_color(Dense1x2::Dark);
        return Ok(renderer.build());
    }
    let picture = renderer.build();
    Ok(picture
        .lines()
        .map(|line| format!("\x1b[30;107m{line}\x1b[0m\n"))
        .collect())
}

/// A Secret with one line for each user; its key becomes a file of the seed folder.
fn manifest(name: &str, args: &EnrolArgs, users: &[String], uris: &[Secret]) -> Result<String, Error> {
    if !is_dns_name(name) || !args.namespace.as_deref().is_none_or(is_dns_name) {
        return Err(Error::Enrol(
            "--secret-name and --namespace must be names that Kubernetes takes: a-z, 0-9, '-' and '.', beginning and \
             ending with a letter or digit, at most 253"
                .to_owned(),
        ));
    }
    let key = match (users, &args.user) {
        ([user], Some(_)) => file_name(user),
        _ => "users".to_owned(),
    };
    let mut lines = String::new();
    for uri in uris {
        lines.push_str(text(uri));
        lines.push('\n');
    }
    let namespace = args
        .namespace
        .as_deref()
        .map(|n| format!("  namespace: {n}\n"))
        .unwrap_or_default();
    Ok(format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\n{namespace}type: Opaque\ndata:\n  {key}: {}\n",
        BASE64.encode(lines)
    ))
}

/// What a key of a Secret may hold, and no dot at its beginning (such files are passed over).
fn file_name(user: &str) -> String {
    let name: String = user
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') {
                c
            } else {
                '_'
            }
        })
        .take(200)
        .collect();
    format!("user-{name}")
}

fn is_dns_name(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=253).contains(&name.len())
        && name.bytes().all(|b| good(b) || b == b'-' || b == b'.')
        && name.bytes().next().is_some_and(good)
        && name.bytes().last().is_some_and(good)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::totp::{Algorithm, Digits};

    fn args() -> EnrolArgs {
        EnrolArgs {
            user: Some("CORP\\Jane".to_owned()),
            csv: None,
            issuer: "Corp: VPN".to_owned(),
            digits: Digits::SIX,
            period: 30,
            algorithm: Algorithm::Sha256,
            secret_name: Some("seeds".to_owned()),
            namespace: Some("mfa".to_owned()),
            qr: Qr::Auto,
        }
    }

    #[test]
    fn what_is_enrolled_is_what_the_provider_reads() {
        let uri = new_key("CORP\\Jane", &args()).unwrap();
        let read = KeyUri::parse(text(&uri)).unwrap();
        assert_eq!(read.account, "CORP\\Jane");
        assert_eq!(read.issuer.as_deref(), Some("Corp  VPN"));
        assert_eq!(read.seed.expose().len(), 32);
        assert_ne!(new_key("CORP\\Jane", &args()).unwrap(), uri);
    }

    #[test]
    fn the_manifest_holds_the_line_of_the_seed_file() {
        let uri = Secret::new(b"otpauth://totp/x?secret=GEZDGNBVGY3TQOJQ".to_vec());
        let yaml = manifest(
            "seeds",
            &args(),
            &["CORP\\Jane".to_owned()],
            std::slice::from_ref(&uri),
        )
        .unwrap();
        let expected = BASE64.encode("otpauth://totp/x?secret=GEZDGNBVGY3TQOJQ\n");
        assert!(
            yaml.contains(&format!("  user-CORP_Jane: {expected}\n")),
            "{yaml}"
        );
        assert!(yaml.contains("  name: seeds\n  namespace: mfa\n"), "{yaml}");
        assert!(manifest("No Good", &args(), &[], &[]).is_err());
    }

    #[test]
    fn a_list_is_read_and_a_user_listed_twice_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "User,mail\njane,j@x\n\"joe\",\n\n").unwrap();
        let list = EnrolArgs {
            user: None,
            csv: Some(file.path().to_owned()),
            ..args()
        };
        assert_eq!(users(&list).unwrap(), ["jane", "joe"]);
        std::fs::write(file.path(), "jane\nJANE\n").unwrap();
        assert!(users(&list).is_err());
        std::fs::write(file.path(), "ja:ne\n").unwrap();
        assert!(users(&list).is_err());
    }

    #[test]
    fn the_qr_code_has_the_quiet_zone_and_no_colour_when_none_is_wanted() {
        let plain = draw("otpauth://totp/x?secret=GEZDGNBVGY3TQOJQ", false).unwrap();
        assert!(
            plain
                .lines()
                .next()
                .is_some_and(|line| line.chars().all(|c| c == '█')),
            "{plain}"
        );
        assert!(draw("otpauth://totp/x", true).unwrap().contains("\x1b[30;107m"));
    }
}
