//! The one module that speaks YAML: files that people write, into types that refuse keys they do not know.

use serde::de::DeserializeOwned;

/// Parses `text`, whose length the caller has bounded. The error is the parser's sentence, with line and column.
pub(crate) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_yaml::from_str(text).map_err(|error| error.to_string())
}
