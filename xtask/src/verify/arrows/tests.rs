use serde_json::json;

use super::graph::parse_tree;
use super::*;

/// The workspace as drawn, with further dependencies.
fn workspace(further: &[(&str, &str)]) -> Graph {
    let packages = ["xtask", "e2e", "local-cluster"]
        .into_iter()
        .chain(HOUSE.map(|(name, _)| name))
        .map(|name| {
            let tests = [
                ("xtask", "local-cluster"),
                ("xtask", "operator-core"),
                ("e2e", "local-cluster"),
            ];
            let declared = DRAWN
                .iter()
                .chain(&tests)
                .chain(further)
                .filter(|(from, _)| *from == name);
            let declared: Vec<Value> = declared
                .map(|(_, to)| json!({"name": to, "kind": null}))
                .collect();
            json!({"name": name, "dependencies": declared})
        });
    let packages: Vec<Value> = packages.collect();
    members(&json!({ "packages": packages })).unwrap()
}

#[test]
fn the_house_as_drawn_is_accepted() {
    assert_eq!(wrong_arrows(&workspace(&[])), [""; 0]);
    assert_eq!(
        wrong_arrows(&workspace(&[("radius-proxy", "proxy-config")])),
        [""; 0]
    );
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
        assert!(
            wrong[0].starts_with(&format!("{from} must not depend on {to}: arrows")),
            "{wrong:?}"
        );
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
    assert!(
        wrong[0].starts_with("proxy-core must not depend on e2e: nothing of the product"),
        "{wrong:?}"
    );
}

#[test]
fn an_arrow_that_is_gone_is_told() {
    let mut members = workspace(&[]);
    members.get_mut("operator-core").unwrap().clear();
    let wrong = wrong_arrows(&members);
    assert_eq!(wrong.len(), 1);
    assert!(
        wrong[0].starts_with("operator-core does not depend on proxy-config any more"),
        "{wrong:?}"
    );
}

fn tree_of(text: &str) -> Graph {
    parse_tree(text).unwrap()
}

#[test]
fn a_tree_is_read_with_its_repeated_parts() {
    let tree = tree_of("0 a v1 (/somewhere)\n1 b v1\n2 c v1\n1 d v1\n2 b v1 (*)\n");
    let edges = |name: &str| tree[name].iter().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(
        (edges("a"), edges("b"), edges("d")),
        (vec!["b", "d"], vec!["c"], vec!["b"])
    );
    assert!(parse_tree("error").is_err());
}

#[test]
fn each_forbidden_crate_is_found_however_deep_with_the_way_to_it() {
    for name in [
        "tokio",
        "tokio-util",
        "hyper",
        "hyper-util",
        "reqwest",
        "kube-client",
        "kube-runtime",
        "rustls",
        "mio",
    ]
    .into_iter()
    .chain([
        "aws-sdk-directory",
        "aws-config",
        "socket2",
        "async-std",
        "getrandom",
        "openssl",
        "native-tls",
    ]) {
        let tree = tree_of(&format!(
            "0 operator-core v1\n1 kube v5\n2 kube-core v5\n3 {name} v1\n1 serde v1\n"
        ));
        let wrong = impurities("operator-core", &tree, None);
        let way = format!("operator-core → kube → kube-core → {name}");
        assert_eq!(
            wrong,
            [format!("operator-core is pure and must not reach {name}: {way}")]
        );
    }
}

#[test]
fn harmless_crates_with_similar_names_are_accepted() {
    let tree = tree_of(
        "0 operator-core v1\n1 kube v5\n2 kube-core v5\n2 kube-derive v5\n1 http v1\n1 tokio_like v1\n",
    );
    assert_eq!(impurities("operator-core", &tree, None), [""; 0]);
}

#[test]
fn radius_may_bring_tokio_and_nothing_else_may_lean_on_it() {
    let good =
        "0 proxy-core v1\n1 radius v0.4\n2 rand v0.8\n3 getrandom v0.2\n2 tokio v1\n3 mio v1\n1 hmac v1\n";
    assert_eq!(impurities("proxy-core", &tree_of(good), Some("radius")), [""; 0]);

    let direct = impurities(
        "proxy-core",
        &tree_of(&format!("{good}1 tokio v1 (*)\n")),
        Some("radius"),
    );
    assert!(
        direct
            .iter()
            .any(|line| line.ends_with("must not reach tokio: proxy-core → tokio")),
        "{direct:?}"
    );

    let beside = impurities(
        "proxy-core",
        &tree_of(&format!("{good}1 x v1\n2 tokio v1 (*)\n")),
        Some("radius"),
    );
    assert!(
        beside.iter().any(|line| line.contains("proxy-core → x → tokio")),
        "{beside:?}"
    );
    assert!(
        beside
            .iter()
            .any(|line| line.contains("only radius may bring tokio")),
        "{beside:?}"
    );

    let below = good.replace("2 tokio v1\n", "2 tokio v1\n2 y v1\n3 tokio v1 (*)\n");
    let below = impurities("proxy-core", &tree_of(&below), Some("radius"));
    assert_eq!(
        below,
        ["only radius may bring tokio below proxy-core, but y does too"]
    );
}

#[test]
fn an_exception_that_nobody_needs_is_told() {
    let wrong = impurities(
        "proxy-core",
        &tree_of("0 proxy-core v1\n1 hmac v1\n"),
        Some("radius"),
    );
    assert_eq!(
        wrong,
        ["radius brings no runtime below proxy-core any more: remove the exception"]
    );
}

/// The modules of a crate with these files.
fn crate_of(files: &[(&str, &str)]) -> Graph {
    let read = |path: &str| {
        let found = files.iter().find(|(name, _)| *name == path);
        found.map(|(_, text)| (*text).to_owned())
    };
    modules::read_uses(&read).unwrap()
}

#[test]
fn a_planted_circle_of_modules_is_refused_in_whatever_way_they_name_each_other() {
    for (a, b, c) in [
        ("use crate::b::B;", "use crate::{d, c::C};", "use crate::a::A;"),
        (
            "fn f() { crate::b::f() }",
            "pub(super) use super::c::C;",
            "fn f() { g!(x = crate::a::A) }",
        ),
        (
            "mod inner { use super::super::b::B; }",
            "type C = Vec<crate::c::C>;",
            "use super::{a::A, d};",
        ),
    ] {
        let graph = crate_of(&[
            ("lib.rs", "mod a; pub mod b; mod c; mod d;"),
            ("a.rs", a),
            ("b/mod.rs", b),
            ("c.rs", c),
            ("d.rs", ""),
        ]);
        assert_eq!(
            wrong_modules("proxy-core", &graph),
            ["the modules of proxy-core form a circle: a → b → c → a"],
            "{a} {b} {c}"
        );
        assert_eq!(wrong_modules("radius-proxy", &graph), [""; 0]);
    }
}

#[test]
fn a_circle_through_a_file_below_the_module_is_refused() {
    let graph = crate_of(&[
        ("main.rs", "mod a; mod b;"),
        ("a.rs", "mod deep;"),
        ("a/deep.rs", "use super::super::b; use super::b;"),
        ("b.rs", "use crate::a;"),
    ]);
    assert_eq!(modules::circles(&graph), ["a → b → a"]);
}

#[test]
fn tests_comments_and_texts_make_no_circle() {
    let graph = crate_of(&[
        ("lib.rs", "mod a; mod b; #[cfg(test)] mod scenarios;"),
        (
            "a.rs",
            r#"
            //! See [`crate::b`].
            #[cfg(test)]
            mod tests;
            #[cfg(test)]
            use crate::{b::B, b};
            #[cfg(test)]
            #[allow(unused, reason = "x")]
            mod more { use crate::b; }
            const TEXT: &str = "crate::b::X"; // crate::b
            fn f(b: u8) -> u8 { self::b::c(); b }
            "#,
        ),
        ("b.rs", "use crate::a; use crate::b::own;"),
    ]);
    assert_eq!(modules::circles(&graph), [""; 0]);
    assert!(graph["b"].contains("a"), "{graph:?}");
    assert_eq!(
        wrong_modules("radius-proxy", &graph),
        ["the modules of radius-proxy form no circle any more: remove the exception"]
    );
}

#[test]
fn a_module_that_uses_one_of_a_layer_above_or_is_in_none_is_refused() {
    let graph = crate_of(&[
        ("lib.rs", "mod api; mod aws; mod new;"),
        ("api.rs", "use crate::aws;"),
        ("aws.rs", ""),
        ("new.rs", ""),
    ]);
    assert_eq!(
        modules::against_layers(&graph, &[&["api"], &["aws", "time"]]),
        [
            "module api must not use aws, which is in a layer above it",
            "module new is in no layer: draw it",
            "module time is drawn and doesn't exist",
        ]
    );
}

#[test]
fn the_modules_of_the_operators_core_are_seen_and_in_their_layers() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("../operator/core/src");
    let graph = modules::uses(&src).unwrap();
    assert!(graph["rollout"].contains("objects"), "{graph:?}");
    assert_eq!(wrong_modules(LAYERED, &graph), [""; 0]);
}
