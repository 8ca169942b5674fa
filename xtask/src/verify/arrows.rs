//! The house (CONTRIBUTING.md): crates see each other in one direction only, and the pure ones reach no runtime, client
//! or SDK. Inside a crate, the modules below its root form no circle.
//!
//! What a crate declares is read from `cargo metadata`. What it reaches is read from `cargo tree --package`, since the
//! resolve graph of `cargo metadata` joins the features of all members: there, the operator's client would seem to be
//! below operator-core, whose `kube` has none.

mod graph;
mod modules;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::output;
use graph::{Graph, parse_tree, reach, way_to};

/// The product's crates and the crates of the house that each sees. Crates of tests and tasks see what they like, and
/// are seen by their own kind only.
const HOUSE: [(&str, &[&str]); 6] = [
    (
        "radius-mfa-operator",
        &["operator-core", "process-metrics", "proxy-config"],
    ),
    ("operator-core", &["proxy-config"]),
    ("radius-proxy", &["process-metrics", "proxy-core", "proxy-config"]),
    ("proxy-core", &["proxy-config"]),
    ("proxy-config", &[]),
    ("process-metrics", &[]),
];

/// Arrows without which the picture would be wrong.
const DRAWN: [(&str, &str); 4] = [
    ("radius-mfa-operator", "operator-core"),
    ("operator-core", "proxy-config"),
    ("radius-proxy", "proxy-core"),
    ("proxy-core", "proxy-config"),
];

/// Crates that know no socket, runtime, client or clock.
const PURE: [&str; 3] = ["operator-core", "proxy-core", "proxy-config"];

/// Crates with which one would: by name, or by a prefix that ends with a dash.
const IMPURE: [&str; 27] = [
    // runtimes and what is below them
    "tokio",
    "tokio-",
    "async-std",
    "async-io",
    "async-executor",
    "smol",
    "futures-executor",
    "mio",
    "polling",
    "socket2",
    "quinn-",
    "hickory-",
    // clients, servers, TLS
    "hyper",
    "hyper-",
    "h2",
    "axum",
    "reqwest",
    "ureq",
    "curl",
    "rustls",
    "native-tls",
    "openssl",
    "kube-client",
    "kube-runtime",
    // SDKs
    "aws-",
    // randomness, which is a parameter too
    "getrandom",
    "fastrand",
];

/// The one exception: the crate that reads and writes RADIUS packets brings a runtime that proxy-core never starts.
/// (pure crate, the crate below it that may reach impure ones)
const EXCEPTION: (&str, &str) = ("proxy-core", "radius");

/// A program that reaches much of what the pure crates must not: if nothing is seen there, this check is blind.
const CANARY: (&str, [&str; 3]) = (
    "radius-mfa-operator",
    ["tokio", "kube-client", "aws-sdk-directory"],
);

/// Crates whose modules still form circles.
const CIRCULAR: [&str; 1] = ["radius-proxy"];

/// The crate whose modules are in layers.
const LAYERED: &str = "operator-core";

/// Its layers: a module uses those of its own layer and of the layers before it.
const LAYERS: [&[&str]; 7] = [
    &["api"],
    &["aws", "dns", "labelled_enum", "names", "time"],
    &["access", "conditions", "events", "outcomes", "undecodable"],
    &["observed"],
    &["config", "directory_client", "objects", "rotation", "secrets"],
    &["registration"],
    &["rollout"],
];

/// Proves the arrows of the workspace at `root`; what was looked at.
///
/// # Errors
/// With every arrow that is wrong, or when Cargo fails.
pub(super) fn verify(root: &Path) -> Result<String> {
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(root)
        .args(["metadata", "--locked", "--no-deps", "--format-version", "1"]);
    let metadata = serde_json::from_str(&output(&mut cargo)?).context("cargo metadata is not JSON")?;
    let members = members(&metadata)?;
    let mut wrong = wrong_arrows(&members);

    let mut reached = 0;
    for pure in PURE {
        let tree = tree(root, pure)?;
        reached += tree.len();
        let exception = Some(EXCEPTION.1).filter(|_| pure == EXCEPTION.0);
        wrong.extend(impurities(pure, &tree, exception));
    }
    let canary = tree(root, CANARY.0)?;
    let seen = reach(CANARY.0, &canary, None);
    for name in CANARY
        .1
        .iter()
        .filter(|name| !seen.contains_key(**name) || !is_impure(name))
    {
        wrong.push(format!(
            "the check is blind: it does not see {name} below {}",
            CANARY.0
        ));
    }
    let mut modules = 0;
    for (name, src) in sources(&metadata)? {
        let graph = modules::uses(&src).with_context(|| format!("cannot read the modules of {name}"))?;
        modules += graph.len();
        wrong.extend(wrong_modules(&name, &graph));
    }
    if wrong.is_empty() {
        return Ok(format!(
            "{} crates of the house, {reached} below the pure ones, {modules} modules",
            members.len()
        ));
    }
    bail!("{}", wrong.join("\n"))
}

/// What each member of the workspace declares on others of its members, of every kind (normal, build, dev).
fn members(metadata: &Value) -> Result<Graph> {
    let packages = metadata
        .get("packages")
        .and_then(Value::as_array)
        .context("cargo metadata names no packages")?;
    let name = |value: &Value| value.get("name").and_then(Value::as_str).map(str::to_owned);
    let all: BTreeSet<String> = packages.iter().filter_map(name).collect();
    let mut graph = Graph::new();
    for package in packages {
        let declared = package
            .get("dependencies")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let declared = declared
            .filter_map(name)
            .filter(|dependency| all.contains(dependency));
        graph.insert(
            name(package).context("a package has no name")?,
            declared.collect(),
        );
    }
    Ok(graph)
}

/// The folder with the sources of each of the product's crates.
fn sources(metadata: &Value) -> Result<Vec<(String, PathBuf)>> {
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let packages = metadata.get("packages").and_then(Value::as_array);
    let packages: Vec<&Value> = packages.into_iter().flatten().collect();
    let mut sources = Vec::new();
    for (name, _) in HOUSE {
        let package = packages
            .iter()
            .find(|package| text(package, "name").as_deref() == Some(name));
        let manifest = package.and_then(|package| text(package, "manifest_path"));
        let manifest = manifest.with_context(|| format!("cargo metadata does not say where {name} is"))?;
        sources.push((name.to_owned(), Path::new(&manifest).with_file_name("src")));
    }
    Ok(sources)
}

/// What is wrong among the modules of a crate.
fn wrong_modules(name: &str, graph: &Graph) -> Vec<String> {
    let circles = modules::circles(graph);
    let mut wrong: Vec<String> = match (circles.is_empty(), CIRCULAR.contains(&name)) {
        (true, true) => vec![format!(
            "the modules of {name} form no circle any more: remove the exception"
        )],
        (false, false) => circles
            .iter()
            .map(|circle| format!("the modules of {name} form a circle: {circle}"))
            .collect(),
        _ => Vec::new(),
    };
    if name == LAYERED {
        let against = modules::against_layers(graph, &LAYERS);
        wrong.extend(against.iter().map(|each| format!("{name}: {each}")));
    }
    wrong
}

fn wrong_arrows(members: &Graph) -> Vec<String> {
    let mut wrong = Vec::new();
    let house = |name: &str| {
        HOUSE
            .iter()
            .find(|(member, _)| *member == name)
            .map(|(_, sees)| *sees)
    };
    for (member, declared) in members {
        // Tests and tasks see everything.
        let Some(sees) = house(member) else { continue };
        for dependency in declared
            .iter()
            .filter(|dependency| !sees.contains(&dependency.as_str()))
        {
            wrong.push(if house(dependency).is_some() {
                format!("{member} must not depend on {dependency}: arrows run one way (CONTRIBUTING.md, \"The house\")")
            } else {
                format!("{member} must not depend on {dependency}: nothing of the product sees tests and tasks")
            });
        }
    }
    for (from, to) in DRAWN {
        if !members.get(from).is_some_and(|declared| declared.contains(to)) {
            wrong.push(format!(
                "{from} does not depend on {to} any more: the picture in CONTRIBUTING.md is wrong"
            ));
        }
    }
    wrong
}

/// What `package` reaches through normal dependencies with its own features, on this platform.
fn tree(root: &Path, package: &str) -> Result<Graph> {
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(root)
        .args(["tree", "--locked", "--package", package]);
    cargo.args([
        "--edges",
        "normal,no-proc-macro",
        "--prefix",
        "depth",
        "--format",
        " {p}",
    ]);
    let tree = parse_tree(&output(&mut cargo)?)?;
    if !tree.contains_key(package) {
        bail!("cargo tree says nothing of {package}");
    }
    Ok(tree)
}

/// What is wrong below a pure crate.
fn impurities(pure: &str, tree: &Graph, exception: Option<&str>) -> Vec<String> {
    let own = reach(pure, tree, exception);
    let mut wrong: Vec<String> = own
        .keys()
        .filter(|name| is_impure(name))
        .map(|name| format!("{pure} is pure and must not reach {name}: {}", way_to(name, &own)))
        .collect();
    let Some(exception) = exception else { return wrong };
    // The exception is tokio through this one crate: nothing else may lean on it.
    let leaning: Vec<&str> = tree
        .iter()
        .filter(|(_, dependencies)| dependencies.contains("tokio"))
        .map(|(name, _)| name.as_str())
        .filter(|name| *name != exception)
        .collect();
    if !leaning.is_empty() {
        wrong.push(format!(
            "only {exception} may bring tokio below {pure}, but {} does too",
            leaning.join(", ")
        ));
    }
    if !reach(pure, tree, None).keys().any(|name| is_impure(name)) {
        wrong.push(format!(
            "{exception} brings no runtime below {pure} any more: remove the exception"
        ));
    }
    wrong
}

fn is_impure(name: &str) -> bool {
    IMPURE
        .iter()
        .any(|impure| name == *impure || (impure.ends_with('-') && name.starts_with(impure)))
}
