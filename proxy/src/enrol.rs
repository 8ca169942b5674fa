//! `radius-proxy totp enrol`: new keys, as URIs, QR codes and a Secret's manifest.

use std::io::{self, IsTerminal as _, Write};

use proxy_config::Secret;
use proxy_config::seeds::{KeyUri, TotpKey};
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

use crate::cli::{EnrolArgs, Qr};
use crate::error::Error;

mod list;
mod manifest;

/// Digits of a scratch code.
const SCRATCH_MODULUS: u64 = 10_000_000_000;

/// What one user gets.
struct Enrolled {
    user: String,
    uri: Secret,
    /// `scratch:USER:CODE,CODE`, when there are any.
    scratch: Option<Secret>,
}

impl Enrolled {
    fn new(user: &str, args: &EnrolArgs) -> Result<Self, Error> {
        Ok(Self {
            user: user.to_owned(),
            uri: new_key(user, args)?,
            scratch: scratch_line(user, args.scratch)?,
        })
    }

    /// The lines of a seed file.
    fn lines(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.uri).chain(&self.scratch).map(text)
    }
}

/// Makes the keys and prints them.
///
/// # Errors
/// A user's name that cannot stand in a URI, a CSV file that cannot be read, or output that cannot be written.
pub fn enrol(args: &EnrolArgs) -> Result<(), Error> {
    let enrolled = users(args)?
        .iter()
        .map(|user| Enrolled::new(user, args))
        .collect::<Result<Vec<_>, _>>()?;
    let Some(name) = &args.secret_name else {
        return print(&enrolled, args.qr);
    };
    let manifest = manifest::write(name, args, &enrolled)?;
    io::stdout().write_all(manifest.expose()).map_err(Error::Write)?;
    // The user has to scan it, wherever the manifest goes. A list's are shown when that is asked for.
    if args.user.is_some() || args.qr == Qr::Always {
        show(&mut io::stderr(), io::stderr().is_terminal(), args.qr, &enrolled)?;
    }
    Ok(())
}

/// The lines go to standard output, and so does the picture where that is a terminal. Where it goes to a file, the picture
/// goes to standard error: the user has to scan it all the same, and no file wants it.
fn print(enrolled: &[Enrolled], qr: Qr) -> Result<(), Error> {
    let (mut out, mut err) = (io::stdout(), io::stderr());
    let out_is_terminal = out.is_terminal();
    let picture = place(qr, enrolled.len(), out_is_terminal, err.is_terminal());
    let on_output = if picture == Picture::OnOutput {
        Qr::Always
    } else {
        Qr::Never
    };
    show(&mut out, out_is_terminal, on_output, enrolled)?;
    match (picture, enrolled) {
        (Picture::OnError, [each]) => draw_for(each, &mut err, true),
        (Picture::Untold, _) => {
            let told = "No QR code was drawn, since there is no terminal to scan it from; --qr always draws it on standard output.";
            writeln!(err, "{told}").map_err(Error::Write)
        }
        _ => Ok(()),
    }
}

/// Where a QR code is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Picture {
    OnOutput,
    OnError,
    /// Nowhere, and nobody asked for that.
    Untold,
    Nowhere,
}

const fn place(qr: Qr, users: usize, out_is_terminal: bool, err_is_terminal: bool) -> Picture {
    match qr {
        Qr::Always => Picture::OnOutput,
        Qr::Auto if users == 1 && out_is_terminal => Picture::OnOutput,
        Qr::Auto if users == 1 && err_is_terminal => Picture::OnError,
        Qr::Auto if users == 1 => Picture::Untold,
        Qr::Auto | Qr::Never => Picture::Nowhere,
    }
}

fn draw_for(each: &Enrolled, out: &mut impl Write, is_terminal: bool) -> Result<(), Error> {
    let colour = is_terminal && std::env::var_os("NO_COLOR").is_none();
    let picture = draw(text(&each.uri), colour)?;
    writeln!(out, "\n{}\n{picture}", each.user).map_err(Error::Write)
}

fn users(args: &EnrolArgs) -> Result<Vec<String>, Error> {
    let users = match (&args.user, &args.csv) {
        (Some(user), _) => {
            check_name(user).map_err(Error::Enrol)?;
            vec![user.clone()]
        }
        (None, Some(path)) => {
            let wrong = |what: &dyn std::fmt::Display| Error::Enrol(format!("{}: {what}", path.display()));
            let file = std::fs::read(path).map_err(|error| wrong(&error))?;
            list::read(&file).map_err(|error| wrong(&error))?
        }
        (None, None) => Vec::new(),
    };
    if users.is_empty() {
        return Err(Error::Enrol("the list holds no user".to_owned()));
    }
    Ok(users)
}

/// Whether a name can stand in a URI.
fn check_name(user: &str) -> Result<(), String> {
    if user.trim().is_empty() || user.contains(':') || user.chars().any(char::is_control) {
        return Err(format!(
            "{user:?} cannot be a user's name in an otpauth:// URI: it must not be empty, nor hold ':' or control \
             characters"
        ));
    }
    Ok(())
}

fn new_key(user: &str, args: &EnrolArgs) -> Result<Secret, Error> {
    let mut key = vec![0; args.algorithm.seed_bytes()];
    getrandom::fill(&mut key).map_err(Error::Random)?;
    let uri = KeyUri {
        account: user.trim().to_owned(),
        issuer: Some(args.issuer.replace(':', " ")).filter(|issuer| !issuer.trim().is_empty()),
        key: TotpKey {
            seed: Secret::new(key),
            algorithm: args.algorithm,
            digits: args.digits,
            period: args.period,
        },
    };
    Ok(uri.to_text())
}

fn scratch_line(user: &str, count: u8) -> Result<Option<Secret>, Error> {
    if count == 0 {
        return Ok(None);
    }
    let mut line = format!("scratch:{}:", user.trim());
    for n in 0..count {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).map_err(Error::Random)?;
        if n > 0 {
            line.push(',');
        }
        line.push_str(&format!("{:010}", u64::from_be_bytes(bytes) % SCRATCH_MODULUS));
    }
    Ok(Some(Secret::new(line.into_bytes())))
}

fn text(secret: &Secret) -> &str {
    secret.expose_str().unwrap_or_default()
}

fn show(out: &mut impl Write, is_terminal: bool, qr: Qr, enrolled: &[Enrolled]) -> Result<(), Error> {
    let draws = match qr {
        Qr::Always => true,
        Qr::Never => false,
        Qr::Auto => is_terminal && enrolled.len() == 1,
    };
    for each in enrolled {
        for line in each.lines() {
            writeln!(out, "{line}").map_err(Error::Write)?;
        }
        if draws {
            draw_for(each, out, is_terminal)?;
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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
            per_user: false,
            label: Vec::new(),
            scratch: 0,
            qr: Qr::Auto,
        }
    }

    #[test]
    fn what_is_enrolled_is_what_the_provider_reads() {
        let uri = new_key("CORP\\Jane", &args()).unwrap();
        let read = KeyUri::parse(text(&uri)).unwrap();
        assert_eq!(read.account, "CORP\\Jane");
        assert_eq!(read.issuer.as_deref(), Some("Corp  VPN"));
        assert_eq!(read.key.seed.expose().len(), 32);
        assert_ne!(new_key("CORP\\Jane", &args()).unwrap(), uri);
    }

    #[test]
    fn scratch_codes_are_what_the_provider_reads() {
        let line = scratch_line("CORP\\Jane", 3).unwrap().unwrap();
        let (user, codes) = text(&line)
            .strip_prefix("scratch:")
            .unwrap()
            .rsplit_once(':')
            .unwrap();
        assert_eq!(user, "CORP\\Jane");
        let codes: BTreeSet<&str> = codes.split(',').collect();
        assert_eq!(codes.len(), 3);
        assert!(codes.iter().all(|code| code.len() == 10));
        assert!(scratch_line("jane", 0).unwrap().is_none());
    }

    #[test]
    fn the_picture_goes_where_somebody_can_scan_it_and_never_into_a_file_unasked() {
        assert_eq!(place(Qr::Auto, 1, true, true), Picture::OnOutput);
        assert_eq!(place(Qr::Auto, 1, false, true), Picture::OnError);
        assert_eq!(place(Qr::Auto, 1, false, false), Picture::Untold);
        assert_eq!(place(Qr::Auto, 2, true, true), Picture::Nowhere);
        assert_eq!(place(Qr::Never, 1, true, true), Picture::Nowhere);
        assert_eq!(place(Qr::Always, 2, false, false), Picture::OnOutput);
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
