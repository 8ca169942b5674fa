//! What survives a restart. One file, replaced in one step: a crash leaves the old state or the new one.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use super::world::{Directory, Entry, Session, World};
use crate::{admin::Journal, error::Error};

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    digest_key: String,
    generations: u64,
    directories: BTreeMap<String, Directory>,
    sessions: Vec<Session>,
    journal: Vec<(u64, Entry)>,
}

/// The file's text.
pub(super) fn text(world: &World) -> Result<String, serde_json::Error> {
    let journal: Vec<(u64, &Entry)> = world.journal.since(0).collect();
    serde_json::to_string(&serde_json::json!({
        "digest_key": world.digest_key,
        "generations": world.generations,
        "directories": world.directories,
        "sessions": world.sessions,
        "journal": journal,
    }))
}

/// Puts what the file holds into a fresh world; a missing file is an empty one.
pub(super) fn restore(world: &mut World, path: &Path) -> Result<(), Error> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => {
            return Err(Error::Read {
                path: path.to_owned(),
                source,
            });
        }
    };
    let kept: Kept = serde_json::from_str(&text).map_err(|source| Error::ParseState {
        path: path.to_owned(),
        source,
    })?;
    world.digest_key = kept.digest_key;
    world.generations = kept.generations;
    world.sessions = kept.sessions;
    world.journal = Journal::restore(kept.journal);
    // What the config seeds and the file does not know stays.
    world.directories.extend(kept.directories);
    Ok(())
}

/// Writes it, readable for nobody else since it holds shared secrets.
pub(super) fn write(path: &Path, text: &str) -> std::io::Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let mut aside = path.as_os_str().to_owned();
    aside.push(".new");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&aside)?;
    file.write_all(text.as_bytes())?;
    file.sync_data()?;
    std::fs::rename(&aside, path)
}
