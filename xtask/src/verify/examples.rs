//! The examples, against the schemas of their kinds. Rules across fields are for the API server, in the end-to-end test.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::schemas;

/// Every manifest directly in examples/.
///
/// # Errors
/// With what is wrong in which file.
pub(super) fn verify(root: &Path) -> Result<String> {
    let schemas = schemas::ensure_all()?;
    let files = manifests(&root.join("examples"))?;
    ensure!(!files.is_empty(), "there are no examples");
    let mut objects = 0;
    for file in &files {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        objects += schemas::conform(&text, &schemas).with_context(|| file.display().to_string())?;
    }
    Ok(format!("{} files, {objects} objects", files.len()))
}

fn manifests(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
