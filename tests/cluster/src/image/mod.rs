//! Container images with one static program each, written straight into an archive.
//!
//! The archive is an OCI image layout with Docker's `manifest.json` beside it, so that containerd, `docker load`,
//! `kind load image-archive`, `k3d image import` and `minikube image load` all read it. The same program gives the same
//! bytes on every machine, and nothing needs to be installed to write it.

mod build;
mod oci;
mod pause;

pub use build::{FLAGS, IMAGES, TARGET, build};
pub use oci::{Archive, File, Image};
pub(crate) use pause::{PAUSE_IMAGE, pause};
