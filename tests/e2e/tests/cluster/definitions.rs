//! The definitions: good resources are taken, wrong values are refused in words.

use std::path::Path;

use crate::world::{project, world};

#[test]
fn every_example_is_accepted_by_the_api_server() {
    let world = world();
    let mut seen = 0;
    for entry in std::fs::read_dir(project().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension() != Some(std::ffi::OsStr::new("yaml")) {
            continue;
        }
        // In a namespace of their own, that can go without a trace.
        let text = std::fs::read_to_string(&path)
            .unwrap()
            .replace("namespace: mfa", "namespace: examples");
        for namespace in text.lines().filter_map(|l| l.trim().strip_prefix("namespace: ")) {
            world.kubectl.ensure_namespace(namespace.trim()).unwrap();
        }
        let output = world.kubectl.try_apply(&text, true).unwrap();
        assert_eq!(output.code, 0, "{}: {}", path.display(), output.stderr);
        seen += 1;
    }
    assert!(seen >= 5, "only {seen} examples");
}

#[test]
fn the_committed_definitions_are_those_that_the_chart_installed() {
    let world = world();
    let path = project().join("crds");
    let output = world
        .kubectl
        .try_run(
            &[
                "diff",
                "--server-side",
                "--force-conflicts",
                "-f",
                path.to_str().unwrap(),
            ],
            None,
        )
        .unwrap();
    // What differs may only be what Helm adds: labels, annotations and their owner.
    let differing = output
        .stdout
        .lines()
        .filter(|l| l.starts_with('+') || l.starts_with('-'))
        .filter(|l| {
            let l = l.trim_start_matches(['+', '-']).trim();
            ![
                "helm.sh",
                "meta.helm",
                "app.kubernetes.io",
                "--",
                "++",
                "labels:",
                "annotations:",
                "generation:",
            ]
            .iter()
            .any(|allowed| l.starts_with(allowed))
        });
    assert_eq!(
        differing.collect::<Vec<_>>(),
        Vec::<&str>::new(),
        "{}",
        Path::new(&path).display()
    );
}
