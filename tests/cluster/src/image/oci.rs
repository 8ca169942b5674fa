//! The image and its archive.

use std::fs;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::error::Error;

/// What an image consists of: nothing but these files, and how to run the program among them.
#[derive(Debug, Clone)]
pub struct Image {
    /// Full name with tag, such as `radius-mfa.local/proxy:dev`.
    pub reference: String,
    /// The path of the program in the image.
    pub entrypoint: String,
    /// The user and group to run as.
    pub user: u32,
    /// Labels.
    pub labels: Vec<(String, String)>,
    /// All files.
    pub files: Vec<File>,
}

/// A file of an image.
#[derive(Debug, Clone)]
pub struct File {
    /// The path in the image, without a leading slash.
    pub path: String,
    /// The permission bits.
    pub mode: u32,
    /// What it holds.
    pub content: Vec<u8>,
}

/// An image archive on disk.
#[derive(Debug, Clone)]
pub struct Archive {
    /// The image's name with tag.
    pub reference: String,
    /// The archive.
    pub path: PathBuf,
    /// The digest of the image's manifest, `sha256:…`: the same for the same content.
    pub digest: String,
    /// The size of the archive in bytes, uncompressed.
    pub size: u64,
}

struct Blob {
    hex: String,
    content: Vec<u8>,
}

impl Blob {
    fn new(content: Vec<u8>) -> Self {
        Self {
            hex: hex::encode(digest(&SHA256, &content)),
            content,
        }
    }

    fn json(value: &Value) -> Self {
        Self::new(value.to_string().into_bytes())
    }

    fn digest(&self) -> String {
        format!("sha256:{}", self.hex)
    }

    fn path(&self) -> String {
        format!("blobs/sha256/{}", self.hex)
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": self.digest(), "size": self.content.len()})
    }
}

impl Image {
    /// Writes the archive to `path`, unless the one that is there already holds the same image.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<Archive, Error> {
        let failed = || Error::file("write", path);
        let layer = Blob::new(layer(&self.files).map_err(failed())?);
        let config = Blob::json(&self.config(&layer));
        let manifest = Blob::json(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config.descriptor("application/vnd.oci.image.config.v1+json"),
            "layers": [layer.descriptor("application/vnd.oci.image.layer.v1.tar")],
        }));
        let digest = manifest.digest();
        let index = self.index(&manifest);
        // Docker before version 25 reads this one file, and finds the same blobs by it.
        let docker =
            json!([{"Config": config.path(), "RepoTags": [self.reference], "Layers": [layer.path()]}]);
        let entries = [
            (
                "oci-layout".to_owned(),
                json!({"imageLayoutVersion": "1.0.0"}).to_string().into_bytes(),
            ),
            ("index.json".to_owned(), index.to_string().into_bytes()),
            ("manifest.json".to_owned(), docker.to_string().into_bytes()),
            (manifest.path(), manifest.content),
            (config.path(), config.content),
            (layer.path(), layer.content),
        ];
        let files: Vec<File> = entries
            .into_iter()
            .map(|(path, content)| File {
                path,
                mode: 0o644,
                content,
            })
            .collect();
        let bytes = tar_of(&files).map_err(failed())?;
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if fs::read(path).ok().as_deref() != Some(bytes.as_slice()) {
            // Two builds at once do not disturb each other.
            let unfinished = path.with_extension(format!("unfinished-{}", std::process::id()));
            fs::write(&unfinished, bytes).map_err(failed())?;
            fs::rename(&unfinished, path).map_err(failed())?;
        }
        Ok(Archive {
            reference: self.reference.clone(),
            path: path.to_owned(),
            digest,
            size,
        })
    }

    fn config(&self, layer: &Blob) -> Value {
        let labels: serde_json::Map<String, Value> = self
            .labels
            .iter()
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect();
        json!({
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "User": format!("{0}:{0}", self.user),
                "Entrypoint": [self.entrypoint],
                "WorkingDir": "/",
                "Labels": labels,
            },
            "rootfs": {"type": "layers", "diff_ids": [layer.digest()]},
        })
    }

    fn index(&self, manifest: &Blob) -> Value {
        let mut descriptor = manifest.descriptor("application/vnd.oci.image.manifest.v1+json");
        if let Some(descriptor) = descriptor.as_object_mut() {
            let tag = self.reference.rsplit_once(':').map_or("latest", |(_, tag)| tag);
            let annotations = json!({
                "io.containerd.image.name": self.reference,
                "org.opencontainers.image.ref.name": tag,
            });
            descriptor.insert("annotations".into(), annotations);
            descriptor.insert("platform".into(), json!({"architecture": "amd64", "os": "linux"}));
        }
        json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [descriptor],
        })
    }
}

/// The files with the folders above them, each folder once.
fn layer(files: &[File]) -> std::io::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut made = std::collections::BTreeSet::new();
    for file in files {
        let mut folders: Vec<_> = Path::new(&file.path).ancestors().skip(1).collect();
        folders.reverse();
        for folder in folders
            .into_iter()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            if made.insert(folder.to_owned()) {
                let mut header = header(0o755, 0);
                header.set_entry_type(tar::EntryType::Directory);
                builder.append_data(&mut header, folder, std::io::empty())?;
            }
        }
        append(&mut builder, file)?;
    }
    builder.into_inner()
}

fn tar_of(files: &[File]) -> std::io::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    files.iter().try_for_each(|file| append(&mut builder, file))?;
    builder.into_inner()
}

fn append(builder: &mut tar::Builder<Vec<u8>>, file: &File) -> std::io::Result<()> {
    let size = u64::try_from(file.content.len()).unwrap_or(u64::MAX);
    builder.append_data(&mut header(file.mode, size), &file.path, file.content.as_slice())
}

/// Owner root and no time: the same files give the same bytes.
fn header(mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn image(content: &[u8]) -> Image {
        Image {
            reference: "radius-mfa.local/x:dev".into(),
            entrypoint: "/x".into(),
            user: 65532,
            labels: Vec::new(),
            files: vec![File {
                path: "etc/ssl/x".into(),
                mode: 0o755,
                content: content.to_vec(),
            }],
        }
    }

    fn entries(archive: &Path) -> Vec<(String, Vec<u8>)> {
        let mut archive = tar::Archive::new(fs::File::open(archive).unwrap());
        let read = |mut entry: tar::Entry<'_, fs::File>| {
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (entry.path().unwrap().display().to_string(), content)
        };
        archive
            .entries()
            .unwrap()
            .map(|entry| read(entry.unwrap()))
            .collect()
    }

    #[test]
    fn every_digest_of_an_archive_is_that_of_what_it_names() {
        let folder = tempfile::tempdir().unwrap();
        let archive = image(b"program").write(&folder.path().join("x.tar")).unwrap();
        let entries = entries(&archive.path);
        let blob = |named: &Value| {
            let hex = named.as_str().unwrap().strip_prefix("sha256:").unwrap();
            let path = format!("blobs/sha256/{hex}");
            let content = &entries.iter().find(|(name, _)| *name == path).unwrap().1;
            assert_eq!(hex::encode(digest(&SHA256, content)), hex);
            content.clone()
        };
        let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        let index = json(&entries.iter().find(|(name, _)| name == "index.json").unwrap().1);
        assert_eq!(index["manifests"][0]["digest"], archive.digest);
        let manifest = json(&blob(&index["manifests"][0]["digest"]));
        let config = json(&blob(&manifest["config"]["digest"]));
        assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
        assert_eq!(config["config"]["User"], "65532:65532");
        let layer = blob(&manifest["layers"][0]["digest"]);
        let mut layer = tar::Archive::new(layer.as_slice());
        let paths = layer
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string());
        assert_eq!(paths.collect::<Vec<_>>(), ["etc", "etc/ssl", "etc/ssl/x"]);
    }

    #[test]
    fn the_same_content_has_the_same_digest_and_another_content_another() {
        let folder = tempfile::tempdir().unwrap();
        let digest =
            |content: &[u8], name: &str| image(content).write(&folder.path().join(name)).unwrap().digest;
        assert_eq!(digest(b"a", "1.tar"), digest(b"a", "2.tar"));
        assert_ne!(digest(b"a", "1.tar"), digest(b"b", "1.tar"));
    }
}
