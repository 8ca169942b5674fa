//! What the pods read.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};

use super::Owner;
use crate::names::{CONFIG_KEY, WRITTEN_BY_LABEL};
use crate::secrets::Files;

/// The configuration file.
pub(crate) fn config_map(owner: &Owner<'_>, text: &str) -> ConfigMap {
    ConfigMap {
        metadata: owner.metadata(owner.names.config_map()),
        data: Some(BTreeMap::from([(CONFIG_KEY.to_owned(), text.to_owned())])),
        ..ConfigMap::default()
    }
}

/// Where the proxies remember used TOTP codes. Without data: that is theirs.
pub(crate) fn used_codes(owner: &Owner<'_>, map: u32) -> ConfigMap {
    let mut metadata = owner.metadata(owner.names.used_codes(map));
    let labels = metadata.labels.get_or_insert_default();
    labels.insert(WRITTEN_BY_LABEL.to_owned(), "proxies".to_owned());
    ConfigMap {
        metadata,
        ..ConfigMap::default()
    }
}

/// Secret files.
pub(crate) fn secret(owner: &Owner<'_>, name: String, files: &Files) -> Secret {
    Secret {
        metadata: owner.metadata(name),
        type_: Some("Opaque".to_owned()),
        data: Some(
            files
                .iter()
                .map(|(name, content)| (name.clone(), ByteString(content.expose().to_vec())))
                .collect(),
        ),
        ..Secret::default()
    }
}
