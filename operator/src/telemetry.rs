//! Logs.

use std::io::IsTerminal as _;

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{FilterExt as _, Targets, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

use crate::settings::LogFormat;

/// Sends logs to standard error. `RUST_LOG` says what is logged (`debug`, `info,radius_mfa_operator=debug`); `info` when
/// it says nothing.
pub(crate) fn start(format: LogFormat) {
    let chosen = std::env::var("RUST_LOG").ok().and_then(|text| text.parse().ok());
    let chosen = chosen.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let filter = chosen.and(filter_fn(|metadata| {
        may_be_logged(metadata.target(), *metadata.level())
    }));
    let layer = match format {
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .with_writer(std::io::stderr)
            .boxed(),
        LogFormat::Text => fmt::layer()
            .with_ansi(
                std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
            )
            .with_target(false)
            .with_writer(std::io::stderr)
            .boxed(),
    };
    tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .init();
}

/// Whether a line is free of secrets whatever RUST_LOG says: the SDK traces whole requests with their bodies and shows
/// raw answers in its other lines, even in warnings about credentials; the Kubernetes client warns with the text of an
/// answer that it cannot read, which may be a Secret. What they have to say is in the operator's own lines.
fn may_be_logged(target: &str, level: Level) -> bool {
    if target.starts_with("radius_mfa_operator") {
        true
    } else if target.starts_with("aws_") {
        level <= Level::ERROR
    } else {
        level <= Level::DEBUG && !target.starts_with("kube_client::client")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_can_ask_for_the_bodies_of_requests() {
        assert!(may_be_logged("radius_mfa_operator::leader", Level::TRACE));
        assert!(!may_be_logged(
            "aws_config::meta::credentials::chain",
            Level::WARN
        ));
        assert!(!may_be_logged("aws_smithy_runtime::client", Level::DEBUG));
        assert!(!may_be_logged("hyper_util::client", Level::TRACE));
        assert!(!may_be_logged("kube_client::client", Level::WARN));
    }
}
