//! The top-level modules of one crate, and which of them use which others.
//!
//! Code under `#[cfg(test)]` doesn't count: a test may use everything.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::str::FromStr as _;

use anyhow::{Context as _, Result, anyhow};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::graph::Graph;

/// Which top-level modules use which, in the crate whose sources are in `src`.
///
/// # Errors
/// If a file can't be read or isn't Rust.
pub(super) fn uses(src: &Path) -> Result<Graph> {
    read_uses(&|path| fs::read_to_string(src.join(path)).ok())
}

/// Like [`uses`], with `read` giving the text of a file below `src`.
///
/// # Errors
/// If a file is missing or isn't Rust.
pub(super) fn read_uses(read: &dyn Fn(&str) -> Option<String>) -> Result<Graph> {
    let mut graph = Graph::new();
    let mut open: Vec<Vec<String>> = vec![Vec::new()];
    while let Some(path) = open.pop() {
        let text = files_of(&path).iter().find_map(|file| read(file));
        let text = text.with_context(|| format!("module {} has no file", path.join("::")))?;
        let tokens = TokenStream::from_str(&text)
            .map_err(|error| anyhow!("module {} isn't Rust: {error}", path.join("::")))?;
        let mut module = Module::default();
        module.read(tokens, path.len());
        for child in module.children {
            open.push(path.iter().cloned().chain([child]).collect());
        }
        if let Some(top) = path.first() {
            graph.entry(top.clone()).or_default().extend(module.used);
        }
    }
    let modules: BTreeSet<String> = graph.keys().cloned().collect();
    for (name, used) in &mut graph {
        used.retain(|each| each != name && modules.contains(each));
    }
    Ok(graph)
}

/// Where the compiler looks for a module.
fn files_of(path: &[String]) -> Vec<String> {
    if path.is_empty() {
        return vec!["lib.rs".to_owned(), "main.rs".to_owned()];
    }
    let path = path.join("/");
    vec![format!("{path}.rs"), format!("{path}/mod.rs")]
}

/// A file.
#[derive(Default)]
struct Module {
    /// Modules in files of their own.
    children: Vec<String>,
    /// What is named directly below the crate's root.
    used: BTreeSet<String>,
}

impl Module {
    /// Reads tokens of a module `depth` levels below the root.
    fn read(&mut self, tokens: TokenStream, depth: usize) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            let rest = tokens.get(at..).unwrap_or_default();
            if is_test(rest) {
                at += 2 + item_length(rest.get(2..).unwrap_or_default());
                continue;
            }
            match token {
                TokenTree::Ident(ident) if *ident == "mod" => {
                    let inline = matches!(rest.get(2), Some(TokenTree::Group(_)));
                    match (rest.get(1), rest.get(2)) {
                        (Some(TokenTree::Ident(_)), Some(TokenTree::Group(body))) => {
                            self.read(body.stream(), depth + 1);
                        }
                        (Some(TokenTree::Ident(name)), _) => self.children.push(name.to_string()),
                        _ => {}
                    }
                    at += if inline { 3 } else { 1 };
                    continue;
                }
                TokenTree::Ident(_) if !follows_path(tokens.get(..at).unwrap_or_default()) => {
                    self.read_path(rest, depth);
                }
                TokenTree::Group(group) => self.read(group.stream(), depth),
                _ => {}
            }
            at += 1;
        }
    }

    /// Notes the path at the beginning of `tokens` if it leads through the crate's root.
    fn read_path(&mut self, tokens: &[TokenTree], depth: usize) {
        let mut tokens = tokens;
        let mut level = depth;
        let mut is_rooted = false;
        while let [
            TokenTree::Ident(ident),
            TokenTree::Punct(first),
            TokenTree::Punct(second),
            rest @ ..,
        ] = tokens
            && first.as_char() == ':'
            && second.as_char() == ':'
        {
            if *ident == "crate" {
                (is_rooted, level) = (true, 0);
            } else if *ident == "super" && level > 0 {
                (is_rooted, level) = (true, level - 1);
            } else if *ident != "self" {
                break;
            }
            tokens = rest;
        }
        if !is_rooted || level > 0 {
            return;
        }
        match tokens.first() {
            Some(TokenTree::Ident(ident)) => {
                self.used.insert(ident.to_string());
            }
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                self.used.extend(first_names(group.stream()));
            }
            _ => {}
        }
    }
}

/// The first segment of each path of a list of imports.
fn first_names(list: TokenStream) -> Vec<String> {
    let mut names = Vec::new();
    let mut is_first = true;
    for token in list {
        match token {
            TokenTree::Ident(ident) if is_first => names.push(ident.to_string()),
            TokenTree::Punct(punct) if punct.as_char() == ',' => {
                is_first = true;
                continue;
            }
            _ => {}
        }
        is_first = false;
    }
    names
}

/// Whether the tokens begin with `#[cfg(test)]`.
fn is_test(tokens: &[TokenTree]) -> bool {
    let [TokenTree::Punct(hash), TokenTree::Group(attribute), ..] = tokens else {
        return false;
    };
    hash.as_char() == '#' && attribute.stream().to_string().replace(' ', "") == "cfg(test)"
}

/// The number of tokens of the item that begins here, with its attributes.
fn item_length(tokens: &[TokenTree]) -> usize {
    let is_end = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(punct) => punct.as_char() == ';',
        _ => false,
    };
    // The braces of an import are followed by its semicolon.
    let is_import = tokens
        .iter()
        .take_while(|token| !is_end(token))
        .any(|token| matches!(token, TokenTree::Ident(ident) if *ident == "use"));
    let end = tokens
        .iter()
        .position(|token| is_end(token) && !(is_import && matches!(token, TokenTree::Group(_))));
    end.map_or(tokens.len(), |end| end + 1)
}

/// Whether a path goes on where these tokens end.
fn follows_path(before: &[TokenTree]) -> bool {
    matches!(before, [.., TokenTree::Punct(first), TokenTree::Punct(second)]
        if first.as_char() == ':' && second.as_char() == ':')
}

/// The circles among the modules, each as a path that ends where it begins.
pub(super) fn circles(graph: &Graph) -> Vec<String> {
    let mut circles = Vec::new();
    let mut named: BTreeSet<&str> = BTreeSet::new();
    for start in graph.keys().filter(|name| !name.is_empty()) {
        if named.contains(start.as_str()) {
            continue;
        }
        if let Some(path) = path_back(start, graph) {
            named.extend(&path);
            let mut path = path;
            path.push(start);
            circles.push(path.join(" → "));
        }
    }
    circles
}

/// The shortest path from `start` along the arrows that has an arrow back to `start`.
fn path_back<'a>(start: &'a str, graph: &'a Graph) -> Option<Vec<&'a str>> {
    let mut seen = BTreeSet::from([start]);
    let mut paths = std::collections::VecDeque::from([vec![start]]);
    while let Some(path) = paths.pop_front() {
        let used = path.last().and_then(|last| graph.get(*last));
        for next in used.into_iter().flatten() {
            if next == start {
                return Some(path);
            }
            if seen.insert(next) {
                paths.push_back(path.iter().copied().chain([next.as_str()]).collect());
            }
        }
    }
    None
}

/// Arrows that lead from a layer to one above it, and modules that are in no layer.
pub(super) fn against_layers(graph: &Graph, layers: &[&[&str]]) -> Vec<String> {
    let layer = |name: &str| layers.iter().position(|layer| layer.contains(&name));
    let mut wrong = Vec::new();
    for (name, used) in graph {
        let Some(own) = layer(name) else {
            wrong.push(format!("module {name} is in no layer: draw it"));
            continue;
        };
        wrong.extend(
            used.iter()
                .filter(|other| layer(other).is_some_and(|other| other > own))
                .map(|other| format!("module {name} must not use {other}, which is in a layer above it")),
        );
    }
    let is_gone = |name: &&&str| !graph.contains_key(**name);
    let gone = layers.iter().copied().flatten().filter(is_gone);
    wrong.extend(gone.map(|name| format!("module {name} is drawn and doesn't exist")));
    wrong
}
