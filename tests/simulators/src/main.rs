//! `simulators directory|controller|duo|okta|dns`: see README.md.

use std::{
    io::{IsTerminal, Write},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};
use simulators::{Running, TlsSource, controller, directory, dns, duo, okta, read_config, write_file};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The outside systems of radius-mfa-operator, as wire-compatible simulators.
///
/// Every admin API has GET /healthz, /state, /settings, /faults, /counters, /journal and POST /reset; each subcommand's help says what
/// else. The admin APIs ask for no password: never expose them.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
struct Cli {
    /// How logs look on standard error.
    #[arg(
        long,
        global = true,
        env = "SIM_LOG_FORMAT",
        value_enum,
        default_value = "text"
    )]
    log_format: LogFormat,
    /// What is logged (debug, info, warn, error, or a tracing filter).
    #[arg(long, global = true, env = "RUST_LOG", default_value = "info")]
    log: String,
    /// Writes the ready line to this file as well as to standard output.
    #[arg(long, global = true, env = "SIM_READY_FILE", value_name = "FILE")]
    ready_file: Option<PathBuf>,
    #[command(subcommand)]
    simulator: Simulator,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Simulator {
    /// AWS Directory Service (and STS): JSON 1.1, SigV4 verified.
    #[command(after_help = DIRECTORY_HELP)]
    Directory(DirectoryArgs),
    /// A domain controller or connector: tries RADIUS servers out and logs users in.
    #[command(after_help = CONTROLLER_HELP)]
    Controller(ControllerArgs),
    /// Duo's Auth API v2: HTTPS, signatures verified.
    #[command(after_help = DUO_HELP)]
    Duo(VendorArgs),
    /// Okta's Factors API and its token endpoint: HTTPS, private_key_jwt verified.
    #[command(after_help = OKTA_HELP)]
    Okta(VendorArgs),
    /// A name server: A and AAAA records over UDP.
    #[command(after_help = DNS_HELP)]
    Dns(DnsArgs),
}

const DIRECTORY_HELP: &str = "\
Point an SDK here: AWS_ENDPOINT_URL_DIRECTORY_SERVICE=http://HOST:8080 AWS_ENDPOINT_URL_STS=http://HOST:8080
AWS_ACCESS_KEY_ID=simulator AWS_SECRET_ACCESS_KEY=simulator AWS_REGION=eu-central-1

Admin API (JSON):
  PUT    /directories/d-0123456789         {\"type\":\"MicrosoftAD\"}       make or change a directory
  GET    /directories/ID                   controllers, RADIUS by region, how long settings were changing
  PUT    /directories/ID/radius            {\"settings\":{...}}             as a foreign hand would
  PUT    /directories/ID/status            {\"status\":\"Failed\"}
  DELETE /directories/ID, /directories/ID/radius, /directories/ID/controllers/NAME
  PUT    /settings                         {\"probe\":{\"mode\":\"complete\"}}  every unknown of the real service
  PUT    /faults                           {\"faults\":[{\"operation\":\"EnableRadius\",\"kind\":\"error\",\"code\":\"ThrottlingException\",\"times\":2}]}
  PUT    /credentials/ID, /roles           who may call, which roles can be assumed
  GET    /journal?since=SEQ                every write, who made it and what came of it
  POST   /digest                           {\"text\":\"...\"}                 to compare with a shared_secret_digest";

const CONTROLLER_HELP: &str = "\
Admin API (JSON):
  POST   /login        {\"username\":\"alice\",\"password\":\"push\"}   how it ended, and every packet
  POST   /logins       {\"username\":\"alice\",\"password\":\"push\",\"every_ms\":1000,\"for_ms\":60000}
  GET    /logins/ID    tried, accepted, rejected, failed, would_have_been_refused, slowest_ms, fail-overs
  DELETE /logins/ID    stop it
  POST   /probe        {}   what enabling would find";

const DUO_HELP: &str = "\
Keys unless configured: ikey DISIMULATOR000000001, skey simulatorsimulatorsimulatorsimulator0000

Admin API (JSON):
  PUT    /users/alice        {\"answer\":\"approve\",\"delay_ms\":2000,\"passcodes\":[\"123456\"]}
                             answer: approve, deny, ignore, fraud, manual; status: active, bypass, disabled, locked_out, unenrolled
  PUT    /users              {\"generate\":{\"count\":10000,\"prefix\":\"user\"}}
  GET    /users/alice/codes  texted codes that were not used
  GET    /pushes             what waits for a person
  POST   /pushes/TXID        {\"answer\":\"approve\"}
  PUT    /settings           {\"pushes_per_minute\":5,\"tls\":\"expired\"}
  PUT    /faults             {\"faults\":[{\"operation\":\"preauth\",\"kind\":\"close\",\"times\":1}]}
  GET    /counters, /journal?since=SEQ&user=alice, /ca.pem";

const OKTA_HELP: &str = "\
SSWS token unless configured: simulator-okta-token

Admin API (JSON):
  PUT    /users/alice@corp.example.com   {\"factors\":[{\"type\":\"push\",\"delay_ms\":2000},
                                           {\"type\":\"token:software:totp\",\"secret\":\"GEZDGNBVGY3TQOJQ\"},{\"type\":\"sms\"}]}
  GET    /users/LOGIN/codes              codes that were sent, by factor
  GET    /pushes                         what waits for a person
  POST   /pushes/ID                      {\"answer\":\"approve\"}
  POST   /revoke                         ends all access tokens
  PUT    /settings                       {\"client_jwks\":{\"keys\":[...]},\"dpop_required\":true,\"rate_limit_per_minute\":5}
  PUT    /faults                         {\"faults\":[{\"operation\":\"poll\",\"kind\":\"status\",\"status\":503,\"times\":1}]}
  GET    /counters, /journal?since=SEQ&user=LOGIN, /ca.pem";

const DNS_HELP: &str = "\
Admin API (JSON), without /state, /settings, /faults, /counters, /journal and /reset:
  PUT    /names/lb.example.com   {\"addresses\":[\"10.0.0.1\",\"fd00::1\"]} or {\"trouble\":\"servfail\"}: nxdomain, servfail, silent
  GET    /names                  what is there, and how often each was asked for
  DELETE /names/lb.example.com";

#[derive(Debug, Args)]
struct DnsArgs {
    /// Where it answers.
    #[arg(long, env = "SIM_LISTEN", default_value = "0.0.0.0:5353")]
    listen: SocketAddr,
    /// Where the admin API answers.
    #[arg(long, env = "SIM_ADMIN", default_value = "0.0.0.0:8083")]
    admin: SocketAddr,
}

#[derive(Debug, Args)]
struct TlsArgs {
    /// DNS names and addresses in the certificate.
    #[arg(long, env = "SIM_TLS_SAN", value_delimiter = ',', default_values = ["localhost", "127.0.0.1", "::1"])]
    tls_san: Vec<String>,
    /// PEM file of a certificate chain to use instead of one's own.
    #[arg(long, env = "SIM_TLS_CERT", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// PEM file of its private key.
    #[arg(long, env = "SIM_TLS_KEY", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Writes the CA's certificate (PEM) to this file.
    #[arg(long, env = "SIM_CA_OUT", value_name = "FILE")]
    ca_out: Option<PathBuf>,
}

impl TlsArgs {
    fn source(&self) -> TlsSource {
        match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => TlsSource::Given {
                certificate: certificate.clone(),
                key: key.clone(),
            },
            _ => TlsSource::Own(self.tls_san.clone()),
        }
    }
}

#[derive(Debug, Args)]
struct DirectoryArgs {
    /// Where the AWS API answers.
    #[arg(long, env = "SIM_LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// Where the admin API answers, and the controllers register.
    #[arg(long, env = "SIM_ADMIN", default_value = "0.0.0.0:8081")]
    admin: SocketAddr,
    /// TOML: settings, credentials, roles, directories.
    #[arg(long, env = "SIM_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Keeps directories, tags, RADIUS settings and the journal over a restart.
    #[arg(long, env = "SIM_STATE", value_name = "FILE")]
    state: Option<PathBuf>,
    /// HTTPS instead of HTTP.
    #[arg(long, env = "SIM_TLS")]
    tls: bool,
    #[command(flatten)]
    tls_args: TlsArgs,
}

#[derive(Debug, Args)]
struct ControllerArgs {
    /// The directory simulator's admin API.
    #[arg(long, env = "SIM_DIRECTORY_URL", value_name = "URL")]
    directory_url: String,
    /// Whose controller this is.
    #[arg(long, env = "SIM_DIRECTORY_ID", value_name = "ID")]
    directory_id: String,
    /// Its name; a controller that comes back under its name replaces its old address. Default: the address.
    #[arg(long, env = "SIM_NAME")]
    name: Option<String>,
    /// Default: the directory's primary region.
    #[arg(long, env = "SIM_REGION", default_value = "")]
    region: String,
    /// What the directory shows as its address (one of each family at most). Also POD_IP.
    #[arg(long, env = "SIM_ADVERTISE_IP", value_delimiter = ',')]
    advertise_ip: Vec<IpAddr>,
    /// Where its RADIUS packets leave from. Default: the advertised address.
    #[arg(long, env = "SIM_SOURCE_IP", value_delimiter = ',')]
    source_ip: Vec<IpAddr>,
    /// Where the admin API answers.
    #[arg(long, env = "SIM_ADMIN", default_value = "0.0.0.0:8082")]
    admin: SocketAddr,
}

#[derive(Debug, Args)]
struct VendorArgs {
    /// Where the vendor's API answers. Default: 0.0.0.0:8443 (duo), 0.0.0.0:8445 (okta).
    #[arg(long, env = "SIM_LISTEN")]
    listen: Option<SocketAddr>,
    /// Where the admin API answers. Default: 0.0.0.0:8444 (duo), 0.0.0.0:8446 (okta).
    #[arg(long, env = "SIM_ADMIN")]
    admin: Option<SocketAddr>,
    /// TOML: settings, users.
    #[arg(long, env = "SIM_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// HTTP instead of HTTPS.
    #[arg(long, env = "SIM_PLAIN_HTTP")]
    plain_http: bool,
    #[command(flatten)]
    tls_args: TlsArgs,
}

impl VendorArgs {
    fn addresses(&self, first_port: u16) -> (SocketAddr, SocketAddr) {
        let any = |port| SocketAddr::from(([0, 0, 0, 0], port));
        (
            self.listen.unwrap_or(any(first_port)),
            self.admin.unwrap_or(any(first_port + 1)),
        )
    }

    fn tls(&self) -> TlsSource {
        if self.plain_http {
            TlsSource::Plain
        } else {
            self.tls_args.source()
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    log_to_standard_error(&cli);
    match run(cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("simulators: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn log_to_standard_error(cli: &Cli) {
    let chosen = cli.log.parse::<Targets>();
    let filter = chosen.unwrap_or_else(|_| Targets::new().with_default(LevelFilter::INFO));
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match cli.log_format {
        LogFormat::Text => registry
            .with(lines.with_ansi(std::io::stderr().is_terminal()))
            .init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).init(),
    }
}

async fn run(cli: Cli) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let (name, running) = match cli.simulator {
        Simulator::Directory(args) => ("directory", start_directory(args).await?),
        Simulator::Controller(args) => ("controller", start_controller(args).await?),
        Simulator::Duo(args) => ("duo", start_duo(args).await?),
        Simulator::Okta(args) => ("okta", start_okta(args).await?),
        Simulator::Dns(args) => {
            let options = dns::Options {
                listen: args.listen,
                admin: args.admin,
            };
            ("dns", dns::start(options).await?)
        }
    };
    let ready = running.ready_line(name);
    if let Some(path) = &cli.ready_file {
        write_file(path, &format!("{ready}\n"))?;
    }
    let mut out = std::io::stdout();
    // Nobody may be reading: that is no reason to end.
    let _ = writeln!(out, "{ready}").and_then(|()| out.flush());
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    running.stop().await;
    Ok(())
}

async fn start_directory(args: DirectoryArgs) -> Result<Running> {
    let running = directory::start(directory::Options {
        listen: args.listen,
        admin: args.admin,
        config: read_config(args.config.as_deref())?,
        state: args.state,
        tls: if args.tls {
            args.tls_args.source()
        } else {
            TlsSource::Plain
        },
    })
    .await?;
    write_ca(&args.tls_args, &running)?;
    Ok(running)
}

async fn start_duo(args: VendorArgs) -> Result<Running> {
    let ((listen, admin), tls) = (args.addresses(8443), args.tls());
    let config = read_config(args.config.as_deref())?;
    let running = duo::start(duo::Options {
        listen,
        admin,
        config,
        tls,
    })
    .await?;
    write_ca(&args.tls_args, &running)?;
    Ok(running)
}

async fn start_okta(args: VendorArgs) -> Result<Running> {
    let ((listen, admin), tls) = (args.addresses(8445), args.tls());
    let config = read_config(args.config.as_deref())?;
    let running = okta::start(okta::Options {
        listen,
        admin,
        config,
        tls,
    })
    .await?;
    write_ca(&args.tls_args, &running)?;
    Ok(running)
}

fn write_ca(tls: &TlsArgs, running: &Running) -> Result<()> {
    if let Some(path) = &tls.ca_out {
        write_file(path, &running.ca_pem)?;
    }
    Ok(())
}

async fn start_controller(args: ControllerArgs) -> Result<Running> {
    let mut advertise = args.advertise_ip;
    if advertise.is_empty()
        && let Ok(pod) = std::env::var("POD_IP")
    {
        let parse = |ip: &str| {
            ip.trim()
                .parse()
                .with_context(|| format!("POD_IP: '{ip}' is no address"))
        };
        advertise = pod.split(',').map(parse).collect::<Result<_>>()?;
    }
    anyhow::ensure!(
        !advertise.is_empty(),
        "--advertise-ip (or POD_IP) is needed: it is what the directory shows"
    );
    let name = args
        .name
        .or_else(|| std::env::var("POD_NAME").ok())
        .unwrap_or_default();
    Ok(controller::start(controller::Options {
        directory_url: args.directory_url,
        directory_id: args.directory_id,
        name,
        region: args.region,
        advertise,
        sources: args.source_ip,
        admin: args.admin,
    })
    .await?)
}
