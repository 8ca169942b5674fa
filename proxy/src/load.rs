//! Configuration from disk: the file, every file it names, and the digest over both.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proxy_config::file::{ConfigFile, NamedFile};
use proxy_config::{
    Config, ConfigDigest, Contents, DigestKey, Problem, Problems, RecordSink, Secret, Unreadable,
};
use proxy_core::Settings;
use zeroize::Zeroizing;

use crate::error::Error;

const MAX_CONFIG: u64 = 4 << 20;
/// A million users' seeds have about a hundred megabytes.
const MAX_NAMED_FILE: u64 = 512 << 20;
const MAX_FILES_IN_FOLDER: usize = 10_000;

/// A configuration that can be served.
pub struct Loaded {
    /// What was checked.
    pub config: Arc<Config>,
    /// The same for the engine.
    pub settings: Settings,
    /// Where login records go; a path is resolved like every other.
    pub records: RecordSink,
    /// Over the configuration file and every file that it names, if [`ConfigFile::is_digested`].
    pub digest: ConfigDigest,
}

/// What is read, and what it was when it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fingerprint(BTreeMap<PathBuf, Option<Stamp>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    size: u64,
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            size: metadata.size(),
        }
    }
}

/// Where a configuration is, and the key of its digest when it names none.
pub struct Source {
    path: PathBuf,
    /// Files named by the last configuration file that could be parsed.
    named: Vec<NamedFile>,
    fallback_key: DigestKey,
}

impl Source {
    /// Of the configuration file at `path`.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn new(path: PathBuf) -> Result<Self, Error> {
        let mut key = vec![0; 32];
        getrandom::fill(&mut key).map_err(Error::Random)?;
        Ok(Self {
            path,
            named: Vec::new(),
            fallback_key: DigestKey::new(key),
        })
    }

    /// Learns which files the configuration file names, so that [`Source::fingerprint`] can look at them before they
    /// are read. A file that cannot be read or parsed is for [`Source::load`] to tell.
    pub fn learn_names(&mut self) {
        let text = read(&self.path, MAX_CONFIG)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        if let Some(file) = text.and_then(|text| ConfigFile::parse(&text).ok()) {
            self.named = file.named_files();
        }
    }

    /// What the files look like from outside. It follows symbolic links, so that the exchange of a mounted
    /// ConfigMap's or Secret's `..data` link is seen. Take it before [`Source::load`]: what changes while it reads is
    /// then seen as a change afterwards.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let mut stamps = BTreeMap::new();
        let mut stamp = |path: PathBuf| {
            let metadata = fs::metadata(&path).ok();
            stamps.insert(path, metadata.as_ref().map(Stamp::from));
        };
        stamp(self.path.clone());
        for named in &self.named {
            match named {
                NamedFile::File(name) => stamp(self.resolve(name)),
                NamedFile::Folder(name) => {
                    let folder = self.resolve(name);
                    for file in files_of(&folder).unwrap_or_default() {
                        stamp(folder.join(file));
                    }
                    stamp(folder);
                }
            }
        }
        Fingerprint(stamps)
    }

    /// Reads and checks everything.
    ///
    /// # Errors
    /// The configuration file cannot be read or parsed, or something in it or in a file that it names is wrong.
    pub fn load(&mut self) -> Result<Loaded, Error> {
        let path = self.path.display().to_string();
        let text = String::from_utf8(read(&self.path, MAX_CONFIG)?).map_err(|_| Error::ReadFile {
            path: path.clone(),
            source: std::io::Error::new(std::io::ErrorKind::InvalidData, "is not UTF-8 text"),
        })?;
        let file = ConfigFile::parse(&text).map_err(|source| Error::ParseConfig { path, source })?;
        self.named = file.named_files();
        let (contents, unreadable, problems) = self.read_named();
        let checked = Config::check_read(&file, &contents, &unreadable);
        let config = match (checked, problems) {
            (Ok(config), problems) if problems.is_empty() => Arc::new(config),
            (checked, mut problems) => {
                problems.extend(checked.err().map(|p| p.0).unwrap_or_default());
                return Err(Error::CheckConfig(Problems(problems)));
            }
        };
        let settings = Settings::check(Arc::clone(&config)).map_err(Error::CheckConfig)?;
        let digest = self.digest(&config, &file, &text, &contents);
        let records = match &config.records {
            RecordSink::Stdout => RecordSink::Stdout,
            RecordSink::File(name) => RecordSink::File(self.resolve(name).display().to_string()),
        };
        Ok(Loaded {
            config,
            settings,
            records,
            digest,
        })
    }

    fn digest(&self, config: &Config, file: &ConfigFile, text: &str, contents: &Contents) -> ConfigDigest {
        let named = contents
            .iter()
            .filter(|(name, _)| file.is_digested(name))
            .map(|(name, content)| (name.as_str(), content.expose()));
        let parts = std::iter::once(("", text.as_bytes())).chain(named);
        ConfigDigest::compute(config.digest_key.as_ref().unwrap_or(&self.fallback_key), parts)
    }

    /// The contents by name, and why the other files could not be read: the check tells it with the field, where one has
    /// to be there. A folder that cannot be read would go unnoticed there.
    fn read_named(&self) -> (Contents, Unreadable, Vec<Problem>) {
        let (mut contents, mut unreadable) = (Contents::new(), Unreadable::new());
        let mut problems = Vec::new();
        for named in &self.named {
            match named {
                NamedFile::File(name) => match read(&self.resolve(name), MAX_NAMED_FILE) {
                    Ok(bytes) => {
                        contents.insert(name.clone(), Secret::new(bytes));
                    }
                    Err(error) => {
                        unreadable.insert(name.clone(), error.unread());
                    }
                },
                NamedFile::Folder(name) => {
                    if let Err(error) = self.read_folder(name, &mut contents) {
                        problems.push(Problem {
                            field: format!("the folder {name:?}"),
                            message: error.to_string(),
                        });
                    }
                }
            }
        }
        (contents, unreadable, problems)
    }

    fn read_folder(&self, name: &str, contents: &mut Contents) -> Result<(), Error> {
        let folder = self.resolve(name);
        let files = files_of(&folder).map_err(|source| Error::ReadFile {
            path: folder.display().to_string(),
            source,
        })?;
        for file in files {
            let bytes = read(&folder.join(&file), MAX_NAMED_FILE)?;
            contents.insert(format!("{name}/{file}"), Secret::new(bytes));
        }
        Ok(())
    }

    /// A name is absolute, or relative to the folder of the configuration file.
    fn resolve(&self, name: &str) -> PathBuf {
        match self.path.parent() {
            Some(folder) => folder.join(name),
            None => PathBuf::from(name),
        }
    }
}

/// The names of the files directly in a folder, sorted, without those that begin with a dot.
fn files_of(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else {
            continue;
        };
        if fs::metadata(folder.join(name)).is_ok_and(|metadata| metadata.is_file()) {
            if names.len() >= MAX_FILES_IN_FOLDER {
                return Err(std::io::Error::other(format!(
                    "holds more than {MAX_FILES_IN_FOLDER} files"
                )));
            }
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let name = || path.display().to_string();
    let limit_bytes = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut bytes =
        read_wiped(path, limit_bytes).map_err(|source| Error::ReadFile { path: name(), source })?;
    if bytes.len() > limit_bytes {
        return Err(Error::FileTooLarge { path: name(), limit });
    }
    Ok(std::mem::take(&mut *bytes))
}

/// A file, up to one byte more than `limit`. Every buffer that a secret was in is overwritten: a vector that grows by itself
/// leaves copies behind.
fn read_wiped(path: &Path, limit: usize) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut file = File::open(path)?;
    let size = usize::try_from(file.metadata()?.len()).unwrap_or(limit);
    let most = limit.saturating_add(1);
    // One byte more than the file has shows its end.
    let mut bytes = Zeroizing::new(vec![0; size.saturating_add(1).clamp(1, most)]);
    let mut filled = 0;
    loop {
        match file.read(bytes.get_mut(filled..).unwrap_or_default()) {
            Ok(0) => {
                bytes.truncate(filled);
                return Ok(bytes);
            }
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if filled == bytes.len() && filled < most {
            let mut grown = Zeroizing::new(vec![0; filled.saturating_mul(2).min(most)]);
            for (to, from) in grown.iter_mut().zip(bytes.iter()) {
                *to = *from;
            }
            bytes = grown;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::CONFIG;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config.toml"), CONFIG).unwrap();
        fs::write(folder.path().join("secret"), "a shared secret\n").unwrap();
        fs::create_dir(folder.path().join("seeds")).unwrap();
        folder
    }

    fn source(folder: &tempfile::TempDir) -> Source {
        Source::new(folder.path().join("config.toml")).unwrap()
    }

    #[test]
    fn a_file_is_read_to_its_end_without_a_buffer_that_grows_by_itself() {
        let folder = folder();
        let path = folder.path().join("secret");
        for size in [0, 1, 100, 5000] {
            fs::write(&path, vec![7; size]).unwrap();
            let bytes = read_wiped(&path, 5000).unwrap();
            assert_eq!((bytes.len(), bytes.capacity()), (size, size + 1));
            assert!(read(&path, 5000).is_ok());
        }
        fs::write(&path, vec![7; 5001]).unwrap();
        assert!(matches!(read(&path, 5000), Err(Error::FileTooLarge { .. })));
        // A file that has no size before it is read.
        assert!(
            !read_wiped(Path::new("/proc/self/status"), 1 << 20)
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn names_are_relative_to_the_file_and_every_content_is_in_the_digest() {
        let folder = folder();
        let mut source = source(&folder);
        let before = source.load().unwrap();
        let print = source.fingerprint();
        assert_eq!(source.load().unwrap().digest, before.digest);
        assert_eq!(source.fingerprint(), print);
        fs::write(folder.path().join("seeds/a"), "# nobody yet").unwrap();
        assert_ne!(source.fingerprint(), print);
        assert_ne!(source.load().unwrap().digest, before.digest);
    }

    #[test]
    fn the_digest_is_what_the_operator_computes() {
        let folder = folder();
        let config = format!("[server]\ndigest_key_file = \"key\"\n{CONFIG}");
        fs::write(folder.path().join("config.toml"), &config).unwrap();
        fs::write(folder.path().join("key"), "the key\n").unwrap();
        fs::write(folder.path().join("seeds/team"), "# nobody yet").unwrap();
        fs::write(folder.path().join("seeds/.hidden"), "x").unwrap();
        let expected = ConfigDigest::compute(
            &DigestKey::new(b"the key".to_vec()),
            [
                ("", config.as_bytes()),
                ("secret", b"a shared secret\n"),
                ("seeds/team", b"# nobody yet"),
            ],
        );
        assert_eq!(source(&folder).load().unwrap().digest, expected);
    }

    #[test]
    fn where_the_others_are_is_seen_and_is_no_other_configuration() {
        let folder = folder();
        let peers = "[server.peers]\nlisten = \"[::]:1\"\naddresses_file = \"others\"\nkey_file = \"key\"\n";
        fs::write(folder.path().join("config.toml"), format!("{peers}{CONFIG}")).unwrap();
        fs::write(folder.path().join("key"), "0123456789abcdef0123456789abcdef").unwrap();
        let mut source = source(&folder);
        let before = source.load().unwrap();
        let print = source.fingerprint();
        fs::write(folder.path().join("others"), "10.0.0.1:1814\n").unwrap();
        assert_ne!(source.fingerprint(), print);
        let after = source.load().unwrap();
        assert_eq!(after.digest, before.digest);
        assert_eq!(before.config.peers.as_ref().unwrap().addresses, []);
        assert_eq!(
            after.config.peers.as_ref().unwrap().addresses,
            [("10.0.0.1".to_owned(), 1814)]
        );
        fs::remove_file(folder.path().join("others")).unwrap();
        fs::create_dir(folder.path().join("others")).unwrap();
        let text = source.load().err().unwrap().to_string();
        assert!(
            text.contains("server.peers.addresses_file: the file \"others\" cannot be read: "),
            "{text}"
        );
    }

    #[test]
    fn the_exchange_of_a_mounted_volumes_link_is_seen() {
        let folder = folder();
        let path = folder.path();
        for (data, text) in [("..1", "first secret"), ("..2", "other secret")] {
            fs::create_dir(path.join(data)).unwrap();
            fs::write(path.join(data).join("secret"), text).unwrap();
        }
        fs::remove_file(path.join("secret")).unwrap();
        std::os::unix::fs::symlink("..1", path.join("..data")).unwrap();
        std::os::unix::fs::symlink("..data/secret", path.join("secret")).unwrap();
        let mut source = source(&folder);
        let before = source.load().unwrap();
        let print = source.fingerprint();
        std::os::unix::fs::symlink("..2", path.join("..new")).unwrap();
        fs::rename(path.join("..new"), path.join("..data")).unwrap();
        assert_ne!(source.fingerprint(), print);
        assert_ne!(source.load().unwrap().digest, before.digest);
    }

    #[test]
    fn what_is_missing_is_named_and_a_bad_line_is_found() {
        let folder = folder();
        fs::remove_file(folder.path().join("secret")).unwrap();
        fs::remove_dir(folder.path().join("seeds")).unwrap();
        let text = source(&folder).load().err().unwrap().to_string();
        assert!(
            text.contains("clients[0].secret_files: the file \"secret\" cannot be read: there is no "),
            "{text}"
        );
        assert!(text.contains("the folder \"seeds\""), "{text}");
        fs::write(
            folder.path().join("config.toml"),
            "[provider.totp]\nseed_folder = 1",
        )
        .unwrap();
        let text = source(&folder).load().err().unwrap().to_string();
        assert!(text.contains("config.toml") && text.contains("line 2"), "{text}");
        let missing = folder.path().join("none.toml");
        let text = Source::new(missing).unwrap().load().err().unwrap().to_string();
        assert!(
            text.contains("none.toml") && text.contains("No such file"),
            "{text}"
        );
    }
}
