//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::logging::LogFormat;
use crate::provider::totp::{Algorithm, Digits};

/// A RADIUS server that asks a second factor: Duo, Okta, TOTP codes, or another RADIUS server.
#[derive(Debug, Parser)]
#[command(name = "radius-proxy", version, about, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How log lines are written to standard error. RUST_LOG says which (info, debug, …).
    #[arg(long, global = true, env = "LOG_FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve RADIUS until SIGTERM. SIGHUP reloads the configuration and opens the file of login records anew.
    Serve(ConfigArgs),
    /// Check a configuration and reach its provider, without serving. Exit code 1 when there is a problem.
    ///
    /// Read and checked are the file and every file that it names. Then each address is bound and let go again (one that
    /// is taken is only noted: the proxy may be serving already), the file of records is opened, and the provider is
    /// reached: Duo and Okta with their credentials and the difference of the clocks, upstream RADIUS servers by
    /// Status-Server, for TOTP the store of used codes. Nobody is logged in, and no push is sent.
    Check {
        /// Which configuration.
        #[command(flatten)]
        config: ConfigArgs,
        /// Do not reach the provider, and do not look into TOTP seeds: a line that cannot be used costs only its own user.
        #[arg(long)]
        offline: bool,
    },
    /// TOTP: codes from an authenticator app.
    #[command(subcommand)]
    Totp(TotpCommand),
}

/// Which configuration.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// The configuration file (TOML). The paths in it are relative to its folder.
    #[arg(long, env = "RADIUS_PROXY_CONFIG", value_name = "FILE")]
    pub config: PathBuf,
}

/// What to do about TOTP.
#[derive(Debug, Subcommand)]
pub enum TotpCommand {
    /// Make a new key for a user, as an otpauth:// URI and a QR code to scan, or for a list of users.
    ///
    /// Put the URI on a line of its own into a file of a seed folder (provider.totp.seed_folders), or use
    /// --secret-name and apply the manifest. It is printed once and kept nowhere.
    Enrol(EnrolArgs),
}

/// For whom, and how.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("whom").required(true)))]
pub struct EnrolArgs {
    /// The user's name, as they log in.
    #[arg(long, group = "whom")]
    pub user: Option<String>,
    /// A list with one user a line, as directories and spreadsheets export it: in the column that a header names
    /// (`SamAccountName`, `user`), or in the first one.
    #[arg(long, value_name = "FILE", group = "whom")]
    pub csv: Option<PathBuf>,
    /// What the authenticator app shows above the code.
    #[arg(long, default_value = "RADIUS MFA")]
    pub issuer: String,
    /// Digits of a code.
    #[arg(long, default_value = "6", value_parser = parse_digits)]
    pub digits: Digits,
    /// Seconds that a code is shown. Some apps ignore anything but 30.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(10..=300))]
    pub period: u16,
    /// The hash. Some apps ignore anything but SHA1.
    #[arg(long, default_value = "SHA1", value_parser = parse_algorithm)]
    pub algorithm: Algorithm,
    /// Print the manifest of a Kubernetes Secret of this name to standard output, and the rest to standard error.
    #[arg(long, value_name = "NAME")]
    pub secret_name: Option<String>,
    /// The namespace in that manifest.
    #[arg(long, requires = "secret_name")]
    pub namespace: Option<String>,
    /// One Secret for each user instead, called NAME-user, for seedsSelector.
    #[arg(long, requires = "secret_name")]
    pub per_user: bool,
    /// A label of the Secrets, for seedsSelector. Can be given more than once.
    #[arg(long, value_name = "KEY=VALUE", requires = "secret_name", value_parser = parse_label)]
    pub label: Vec<(String, String)>,
    /// So many scratch codes for each user, for when the authenticator is away: each works once.
    #[arg(long, value_name = "COUNT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=20))]
    pub scratch: u8,
    /// When to draw the QR code: auto is for one user and a terminal, which may be that of standard error.
    #[arg(long, value_enum, default_value_t)]
    pub qr: Qr,
}

/// When to draw QR codes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Qr {
    /// For one user, on a terminal.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

fn parse_digits(text: &str) -> Result<Digits, String> {
    text.parse()
        .ok()
        .and_then(Digits::new)
        .ok_or_else(|| "must be 6, 7 or 8".to_owned())
}

/// A label as Kubernetes takes it: an optional DNS prefix and a slash, then 1 to 63 letters, digits, `-`, `_` and `.`.
fn parse_label(text: &str) -> Result<(String, String), String> {
    let wrong = || format!("{text:?} is no label; write key=value");
    let (key, value) = text.split_once('=').ok_or_else(wrong)?;
    let (prefix, name) = key.split_once('/').unwrap_or(("", key));
    let word = |text: &str| {
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        text.len() <= 63
            && edge(text.chars().next())
            && edge(text.chars().last())
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    let dns = prefix.len() <= 253
        && prefix
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-.".contains(c));
    if word(name) && dns && (value.is_empty() || word(value)) {
        Ok((key.to_owned(), value.to_owned()))
    } else {
        Err(wrong())
    }
}

fn parse_algorithm(text: &str) -> Result<Algorithm, String> {
    Algorithm::parse(text).ok_or_else(|| "must be SHA1, SHA256 or SHA512".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
