//! Who depends on whom, and who is reached.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anyhow::{Result, bail};

/// Who depends on whom, by name.
pub(super) type Graph = BTreeMap<String, BTreeSet<String>>;

/// Lines such as `2 tokio v1.35.1 (*)`: depth, name, version; a subtree is written out once, where it comes first.
pub(super) fn parse_tree(text: &str) -> Result<Graph> {
    let mut graph = Graph::new();
    let mut path: Vec<String> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let mut words = line.split(' ');
        let depth: Option<usize> = words.next().and_then(|word| word.parse().ok());
        let (Some(depth), Some(name)) = (depth, words.next()) else {
            bail!("cargo tree wrote {line:?}")
        };
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
pub(super) fn reach<'a>(
    root: &'a str,
    graph: &'a Graph,
    without: Option<&str>,
) -> BTreeMap<&'a str, &'a str> {
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

/// The crates from the root to `name`, each with an arrow to the next.
pub(super) fn way_to(name: &str, found: &BTreeMap<&str, &str>) -> String {
    let mut way = vec![name];
    while let Some(parent) = way
        .last()
        .and_then(|name| found.get(name))
        .filter(|parent| !way.contains(parent))
    {
        way.push(parent);
    }
    way.reverse();
    way.join(" → ")
}
