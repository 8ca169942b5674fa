//! The pages: every link leads to a file that is there, and to a heading that the page has.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

/// Every Markdown file of the repository.
///
/// # Errors
/// With all links that lead nowhere.
pub(super) fn verify(root: &Path) -> Result<String> {
    let mut texts = BTreeMap::new();
    read(root, &mut texts)?;
    let anchors: BTreeMap<&PathBuf, BTreeSet<String>> =
        texts.iter().map(|(page, text)| (page, anchors(text))).collect();
    let (mut links, mut broken) = (0, Vec::new());
    for (page, text) in &texts {
        for link in links_of(text) {
            links += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() {
                page.clone()
            } else {
                plain(&page.parent().unwrap_or(root).join(path))
            };
            let has_anchor = anchors
                .get(&target)
                .is_none_or(|anchors| anchors.contains(anchor));
            if !target.exists() || !(anchor.is_empty() || has_anchor) {
                broken.push(format!(
                    "{}: {link}",
                    page.strip_prefix(root).unwrap_or(page).display()
                ));
            }
        }
    }
    ensure!(
        broken.is_empty(),
        "links that lead nowhere:\n{}",
        broken.join("\n")
    );
    Ok(format!("{} pages, {links} links", texts.len()))
}

/// The pages in a folder and below; what was built, and hidden folders, are left out.
fn read(folder: &Path, texts: &mut BTreeMap<PathBuf, String>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.starts_with('.') || name == "target" {
            continue;
        }
        if path.is_dir() {
            read(&path, texts)?;
        } else if name.ends_with(".md") {
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            texts.insert(path, text);
        }
    }
    Ok(())
}

/// A path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

/// The lines of a page that are not in a block of code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !(code || fence)
    })
}

/// Where links within the repository lead.
fn links_of(text: &str) -> Vec<&str> {
    let mut links = Vec::new();
    for line in prose(text) {
        // What is between backticks is code.
        for words in line.split('`').step_by(2) {
            // A link's text may be code, so that its other half is in the next piece.
            for after in words.split("](").skip(1) {
                if let Some((link, _)) = after.split_once(')')
                    && !link.contains("://")
                {
                    links.push(link);
                }
            }
        }
    }
    links
}

fn anchors(text: &str) -> BTreeSet<String> {
    prose(text)
        .filter(|line| line.starts_with('#'))
        .map(|line| anchor(line.trim_start_matches('#')))
        .collect()
}

/// A heading's anchor, as GitHub makes it: small letters, digits, dashes for spaces.
fn anchor(heading: &str) -> String {
    heading
        .trim()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# AWS: grants, and more\n\
        See [install](install.md#2-the-operator), [`here`](#a-b) and [there](https://example.com/#x).\n\
        `[a-z]([-a-z]*)` is a pattern.\n\
        ```sh\n# no heading [no](link.md)\n```\n\
        ### A load balancer's name\n";

    #[test]
    fn links_are_found_in_prose_and_not_in_code_or_on_the_web() {
        assert_eq!(links_of(PAGE), ["install.md#2-the-operator", "#a-b"]);
    }

    #[test]
    fn a_heading_has_the_anchor_that_github_gives_it() {
        let wanted = ["a-load-balancers-name", "aws-grants-and-more"].map(str::to_owned);
        assert_eq!(anchors(PAGE), BTreeSet::from(wanted));
    }

    #[test]
    fn a_link_to_a_missing_file_or_heading_is_told_with_its_page() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("docs")).unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("README.md", "# Top\n[a](docs/a.md#first) [docs](docs)\n");
        write("docs/a.md", "## First\n[up](../README.md#top) [self](#first)\n");
        assert_eq!(verify(folder.path()).unwrap(), "2 pages, 4 links");
        write("docs/a.md", "## Second\n[up](../README.md#top) [gone](b.md)\n");
        let told = verify(folder.path()).unwrap_err().to_string();
        assert!(
            told.contains("README.md: docs/a.md#first") && told.contains("docs/a.md: b.md"),
            "{told}"
        );
    }
}
