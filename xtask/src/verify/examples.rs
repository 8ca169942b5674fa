//! The examples, against the schemas of their kinds. Rules across fields are for the API server, in the end-to-end test.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

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
    }
    Ok(format!("{} files, {objects} objects", files.len()))
}
