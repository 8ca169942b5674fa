//! The house (CONTRIBUTING.md): crates see each other in one direction only, and the pure ones reach no runtime, client
//! or SDK.
//!
//! What a crate declares is read from `cargo metadata`. What it reaches is read from `cargo tree --package`, since the
//! resolve graph of `cargo metadata` joins the features of all members: there, the operator's client would seem to be
//! below operator-core, whose `kube` has none.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::output;

/// The product's crates and the crates of the house that each sees. Crates of tests and tasks see what they like, and
/// are seen by their own kind only.
const HOUSE: [(&str, &[&str]); 5] = [
    ("radius-mfa-operator", &["operator-core", "proxy-config"]),
    ("operator-core", &["proxy-config"]),
    ("radius-proxy", &["proxy-core", "proxy-config"]),
    ("proxy-core", &["proxy-config"]),
    ("proxy-config", &[]),
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
    "tokio", "tokio-", "async-std", "async-io", "async-executor", "smol", "futures-executor", "mio", "polling", "socket2",
    "quinn-", "hickory-",
    // clients, servers, TLS
    "hyper", "hyper-", "h2", "axum", "reqwest", "ureq", "curl", "rustls", "native-tls", "openssl", "kube-client",
    "kube-runtime",
    // SDKs
    "aws-",
    // randomness, which is a parameter too
    "getrandom", "fastrand",
];

/// The one exception: the crate that reads and writes RADIUS packets brings a runtime that proxy-core never starts.
/// (pure crate, the crate below it that may reach impure ones)
const EXCEPTION: (&str, &str) = ("proxy-core", "radius");

/// A program that reaches much of what the pure crates must not: if nothing is seen there, this check is blind.
const CANARY: (&str, [&str; 3]) = ("radius-mfa-operator", ["tokio", "kube-client", "aws-sdk-directory"]);

/// Who depends on whom, by name.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// Proves the arrows of the workspace at `root`; what was looked at.
///
/// # Errors
/// With every arrow that is wrong, or when Cargo fails.
pub(super) fn verify(root: &Path) -> Result<String> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(root).args(["metadata", "--locked", "--no-deps", "--format-version", "1"]);
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
    for name in CANARY.1.iter().filter(|name| !seen.contains_key(**name) || !is_impure(name)) {
        wrong.push(format!("the check is blind: it does not see {name} below {}", CANARY.0));
    }
    if wrong.is_empty() {
        return Ok(format!("{} crates of the house, {reached} below the pure ones", members.len()));
    }
    bail!("{}", wrong.join("\n"))
}

/// What each member of the workspace declares on others of its members, of every kind (normal, build, dev).
fn members(metadata: &Value) -> Result<Graph> {
    let packages = metadata.get("packages").and_then(Value::as_array).context("cargo metadata names no packages")?;
    let name = |value: &Value| value.get("name").and_then(Value::as_str).map(str::to_owned);
    let all: BTreeSet<String> = packages.iter().filter_map(name).collect();
    let mut graph = Graph::new();
    for package in packages {
        let declared = package.get("dependencies").and_then(Value::as_array).into_iter().flatten();
        let declared = declared.filter_map(name).filter(|dependency| all.contains(dependency));
        graph.insert(name(package).context("a package has no name")?, declared.collect());
    }
    Ok(graph)
}

fn wrong_arrows(members: &Graph) -> Vec<String> {
    let mut wrong = Vec::new();
    let house = |name: &str| HOUSE.iter().find(|(member, _)| *member == name).map(|(_, sees)| *sees);
    for (member, declared) in members {
        // Tests and tasks see everything.
        let Some(sees) = house(member) else { continue };
        for dependency in declared.iter().filter(|dependency| !sees.contains(&dependency.as_str())) {
            wrong.push(if house(dependency).is_some() {
                format!("{member} must not depend on {dependency}: arrows run one way (CONTRIBUTING.md, \"The house\")")
            } else {
                format!("{member} must not depend on {dependency}: nothing of the product sees tests and tasks")
            });
        }
    }
    for (from, to) in DRAWN {
        if !members.get(from).is_some_and(|declared| declared.contains(to)) {
            wrong.push(format!("{from} does not depend on {to} any more: the picture in CONTRIBUTING.md is wrong"));
        }
    }
    wrong
}

/// What `package` reaches through normal dependencies with its own features, on this platform.
fn tree(root: &Path, package: &str) -> Result<Graph> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(root).args(["tree", "--locked", "--package", package]);
    cargo.args(["--edges", "normal,no-proc-macro", "--prefix", "depth", "--format", " {p}"]);
    let tree = parse_tree(&output(&mut cargo)?)?;
    if !tree.contains_key(package) {
        bail!("cargo tree says nothing of {package}");
    }
    Ok(tree)
}

/// Lines such as `2 tokio v1.35.1 (*)`: depth, name, version; a subtree is written out once, where it comes first.
fn parse_tree(text: &str) -> Result<Graph> {
    let mut graph = Graph::new();
    let mut path: Vec<String> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let mut words = line.split(' ');
        let depth: Option<usize> = words.next().and_then(|word| word.parse().ok());
        let (Some(depth), Some(name)) = (depth, words.next()) else { bail!("cargo tree wrote {line:?}") };
        path.truncate(depth);
        if let Some(parent) = path.last() {
            graph.entry(parent.clone()).or_default().insert(name.to_owned());
        }
        graph.entry(name.to_owned()).or_default();
        path.push(name.to_owned());
    }
    Ok(graph)
}

/// Every crate below `root`, not looking below `without`, each with the one through which it is reached.
fn reach<'a>(root: &'a str, graph: &'a Graph, without: Option<&str>) -> BTreeMap<&'a str, &'a str> {
    let mut found = BTreeMap::from([(root, root)]);
    let mut next = VecDeque::from([root]);
    while let Some(name) = next.pop_front() {
        if Some(name) == without {
            continue;
        }
        for dependency in graph.get(name).into_iter().flatten() {
            if !found.contains_key(dependency.as_str()) {
                found.insert(dependency, name);
                next.push_back(dependency);
            }
        }
    }
    found
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
        wrong.push(format!("only {exception} may bring tokio below {pure}, but {} does too", leaning.join(", ")));
    }
    if !reach(pure, tree, None).keys().any(|name| is_impure(name)) {
        wrong.push(format!("{exception} brings no runtime below {pure} any more: remove the exception"));
    }
    wrong
}

fn way_to(name: &str, found: &BTreeMap<&str, &str>) -> String {
    let mut way = vec![name];
    while let Some(parent) = way.last().and_then(|name| found.get(name)).filter(|parent| !way.contains(parent)) {
        way.push(parent);
    }
    way.reverse();
    way.join(" → ")
}

fn is_impure(name: &str) -> bool {
    IMPURE.iter().any(|impure| name == *impure || (impure.ends_with('-') && name.starts_with(impure)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The workspace as drawn, with further dependencies.
    fn workspace(further: &[(&str, &str)]) -> Graph {
        let packages = ["xtask", "e2e", "local-cluster"].into_iter().chain(HOUSE.map(|(name, _)| name)).map(|name| {
            let tests = [("xtask", "local-cluster"), ("xtask", "operator-core"), ("e2e", "local-cluster")];
            let declared = DRAWN.iter().chain(&tests).chain(further).filter(|(from, _)| *from == name);
            let declared: Vec<Value> = declared.map(|(_, to)| json!({"name": to, "kind": null})).collect();
            json!({"name": name, "dependencies": declared})
        });
        let packages: Vec<Value> = packages.collect();
        members(&json!({ "packages": packages })).unwrap()
    }

    #[test]
    fn the_house_as_drawn_is_accepted() {
        assert_eq!(wrong_arrows(&workspace(&[])), [""; 0]);
        assert_eq!(wrong_arrows(&workspace(&[("radius-proxy", "proxy-config")])), [""; 0]);
        assert_eq!(wrong_arrows(&workspace(&[("radius-proxy", "tokio")])), [""; 0]);
    }

    #[test]
    fn an_arrow_against_the_direction_or_across_is_refused() {
        for (from, to) in [
            ("radius-mfa-operator", "proxy-core"),
            ("radius-mfa-operator", "radius-proxy"),
            ("operator-core", "radius-mfa-operator"),
            ("operator-core", "proxy-core"),
            ("proxy-config", "proxy-core"),
            ("proxy-core", "operator-core"),
            ("radius-proxy", "radius-mfa-operator"),
        ] {
            let wrong = wrong_arrows(&workspace(&[(from, to)]));
            assert_eq!(wrong.len(), 1, "{from} → {to}");
            assert!(wrong[0].starts_with(&format!("{from} must not depend on {to}: arrows")), "{wrong:?}");
        }
    }

    #[test]
    fn nothing_of_the_product_sees_tests_and_tasks_not_even_in_its_own_tests() {
        let metadata = json!({"packages": [
            {"name": "e2e", "dependencies": []},
            {"name": "proxy-core", "dependencies": [{"name": "e2e", "kind": "dev"}, {"name": "proxy-config", "kind": null}]},
            {"name": "proxy-config", "dependencies": []},
        ]});
        let wrong = wrong_arrows(&members(&metadata).unwrap());
        assert!(wrong[0].starts_with("proxy-core must not depend on e2e: nothing of the product"), "{wrong:?}");
    }

    #[test]
    fn an_arrow_that_is_gone_is_told() {
        let mut members = workspace(&[]);
        members.get_mut("operator-core").unwrap().clear();
        let wrong = wrong_arrows(&members);
        assert_eq!(wrong.len(), 1);
        assert!(wrong[0].starts_with("operator-core does not depend on proxy-config any more"), "{wrong:?}");
    }

    fn tree_of(text: &str) -> Graph {
        parse_tree(text).unwrap()
    }

    #[test]
    fn a_tree_is_read_with_its_repeated_parts() {
        let tree = tree_of("0 a v1 (/somewhere)\n1 b v1\n2 c v1\n1 d v1\n2 b v1 (*)\n");
        let edges = |name: &str| tree[name].iter().map(String::as_str).collect::<Vec<_>>();
        assert_eq!((edges("a"), edges("b"), edges("d")), (vec!["b", "d"], vec!["c"], vec!["b"]));
        assert!(parse_tree("error").is_err());
    }

    #[test]
    fn each_forbidden_crate_is_found_however_deep_with_the_way_to_it() {
        for name in ["tokio", "tokio-util", "hyper", "hyper-util", "reqwest", "kube-client", "kube-runtime", "rustls", "mio"]
            .into_iter()
            .chain(["aws-sdk-directory", "aws-config", "socket2", "async-std", "getrandom", "openssl", "native-tls"])
        {
            let tree = tree_of(&format!("0 operator-core v1\n1 kube v5\n2 kube-core v5\n3 {name} v1\n1 serde v1\n"));
            let wrong = impurities("operator-core", &tree, None);
            let way = format!("operator-core → kube → kube-core → {name}");
            assert_eq!(wrong, [format!("operator-core is pure and must not reach {name}: {way}")]);
        }
    }

    #[test]
    fn harmless_crates_with_similar_names_are_accepted() {
        let tree = tree_of("0 operator-core v1\n1 kube v5\n2 kube-core v5\n2 kube-derive v5\n1 http v1\n1 tokio_like v1\n");
        assert_eq!(impurities("operator-core", &tree, None), [""; 0]);
    }

    #[test]
    fn radius_may_bring_tokio_and_nothing_else_may_lean_on_it() {
        let good = "0 proxy-core v1\n1 radius v0.4\n2 rand v0.8\n3 getrandom v0.2\n2 tokio v1\n3 mio v1\n1 hmac v1\n";
        assert_eq!(impurities("proxy-core", &tree_of(good), Some("radius")), [""; 0]);

        let direct = impurities("proxy-core", &tree_of(&format!("{good}1 tokio v1 (*)\n")), Some("radius"));
        assert!(direct.iter().any(|line| line.ends_with("must not reach tokio: proxy-core → tokio")), "{direct:?}");

        let beside = impurities("proxy-core", &tree_of(&format!("{good}1 x v1\n2 tokio v1 (*)\n")), Some("radius"));
        assert!(beside.iter().any(|line| line.contains("proxy-core → x → tokio")), "{beside:?}");
        assert!(beside.iter().any(|line| line.contains("only radius may bring tokio")), "{beside:?}");

        let below = good.replace("2 tokio v1\n", "2 tokio v1\n2 y v1\n3 tokio v1 (*)\n");
        let below = impurities("proxy-core", &tree_of(&below), Some("radius"));
        assert_eq!(below, ["only radius may bring tokio below proxy-core, but y does too"]);
    }

    #[test]
    fn an_exception_that_nobody_needs_is_told() {
        let wrong = impurities("proxy-core", &tree_of("0 proxy-core v1\n1 hmac v1\n"), Some("radius"));
        assert_eq!(wrong, ["radius brings no runtime below proxy-core any more: remove the exception"]);
    }
}
