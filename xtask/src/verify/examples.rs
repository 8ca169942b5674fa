//! The examples, against the schemas of their kinds. Rules across fields are for the API server, in the end-to-end test.
//! What is somebody's own is marked, so that who copies one finds it.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::manifests::{Schemas, yaml_files};

/// Every manifest directly in examples/.
///
/// # Errors
/// With what is wrong in which file.
pub(super) fn verify(root: &Path) -> Result<String> {
    let schemas = Schemas::make(root)?;
    let files = yaml_files(&root.join("examples"))?;
    let mut objects = 0;
    for file in &files {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        objects += schemas.check(&text).with_context(|| file.display().to_string())?;
        if let Some(line) = text.lines().find(|line| is_unmarked(line)) {
            bail!("{}: without REPLACE-ME: {}", file.display(), line.trim());
        }
    }
    Ok(format!("{} files, {objects} objects", files.len()))
}

fn is_unmarked(line: &str) -> bool {
    let own = [
        "id: d-",
        "directoryIds:",
        "region:",
        "roleArn:",
        "apiHost:",
        "orgUrl:",
        "address:",
    ];
    let field = line.trim_start().trim_start_matches("- ");
    own.iter().any(|own| field.starts_with(own)) && !line.contains("REPLACE-ME")
}
