//! The sources of collateral. Whoever writes this can make clients wait or go without; they verify what they get.

use super::{read_yaml, refused};
use crate::error::{Context, Error, Fault};
use crate::limits::{CACHE_BYTES_MIN, SOURCE_MS_MAX, SOURCES_MAX};
use serde::Deserialize;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// `collateral.yaml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollateralConfig {
    /// Where `collateral serve` listens. Port 0 lets the system choose.
    #[serde(default = "listen_default")]
    pub listen: SocketAddr,
    /// The directory of the cache.
    pub cache: PathBuf,
    /// Maximum size of the cache on disk.
    #[serde(default = "cache_bytes_default")]
    pub cache_bytes_max: u64,
    /// Sources of Intel's collateral, asked in this order.
    #[serde(default)]
    pub tdx: Vec<TdxSource>,
    /// Sources of NVIDIA's reference integrity manifests, asked in this order.
    #[serde(default)]
    pub rim: Vec<RimSource>,
    /// NVIDIA's OCSP responders, asked in this order.
    #[serde(default)]
    pub ocsp: Vec<OcspSource>,
}

/// A source of Intel's collateral.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum TdxSource {
    /// Intel's own service, API version 4.
    Pcs {
        /// Base URL, before `/sgx/certification/v4`.
        url: BaseUrl,
        /// The root CA's revocation list, which that service does not have.
        root_crl_url: BaseUrl,
        /// Limit for all its answers together.
        #[serde(default = "timeout_default")]
        timeout_ms: u64,
    },
    /// A provisioning certificate caching service: a provider's cache of the former.
    Pccs {
        /// Base URL, before `/sgx/certification/v4`.
        url: BaseUrl,
        /// Limit for all its answers together.
        #[serde(default = "timeout_default")]
        timeout_ms: u64,
    },
    /// A file with the JSON that `collateral fetch` writes.
    File {
        /// The file.
        path: PathBuf,
    },
}

/// A source of NVIDIA's reference integrity manifests.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum RimSource {
    /// NVIDIA's service, or another proxy.
    Rim {
        /// Base URL, before `/v1/rim`.
        url: BaseUrl,
        /// Limit for an answer.
        #[serde(default = "timeout_default")]
        timeout_ms: u64,
    },
    /// A directory with a file `ID.xml` for each.
    Directory {
        /// The directory.
        path: PathBuf,
    },
}

/// An OCSP responder.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum OcspSource {
    /// NVIDIA's, or another proxy.
    Ocsp {
        /// Where requests are posted.
        url: BaseUrl,
        /// Limit for an answer.
        #[serde(default = "timeout_default")]
        timeout_ms: u64,
    },
}

/// `http://` or `https://`, a host, an optional path; no slash at its end.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct BaseUrl(String);

impl CollateralConfig {
    /// Reads a file. Relative paths in it start at its directory.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let (config, directory) = read_yaml(path)?;
        Self::finish(config, &directory).context(Fault::Configuration, || path.display())
    }

    /// Parses a file's text; `directory` is where its relative paths start.
    pub fn from_yaml(text: &str, directory: &Path) -> Result<Self, Error> {
        Self::finish(super::parse(text)?, directory)
    }

    fn finish(mut config: CollateralConfig, directory: &Path) -> Result<Self, Error> {
        let timeouts = [
            (
                "tdx",
                config.tdx.iter().map(TdxSource::timeout_ms).collect(),
            ),
            (
                "rim",
                config.rim.iter().map(RimSource::timeout_ms).collect(),
            ),
            (
                "ocsp",
                config.ocsp.iter().map(OcspSource::timeout_ms).collect(),
            ),
        ];
        for (list, timeouts) in timeouts {
            let timeouts: Vec<Option<u64>> = timeouts;
            if timeouts.len() > SOURCES_MAX {
                let count = timeouts.len();
                return Err(refused(format!(
                    "{list} has {count} sources; at most {SOURCES_MAX} are allowed"
                )));
            }
            for ms in timeouts.into_iter().flatten() {
                if !(1..=SOURCE_MS_MAX).contains(&ms) {
                    return Err(refused(format!(
                        "{list}: timeout_ms is {ms}; 1 to {SOURCE_MS_MAX} are allowed"
                    )));
                }
            }
        }
        if config.cache_bytes_max < CACHE_BYTES_MIN {
            let got = config.cache_bytes_max;
            return Err(refused(format!(
                "cache_bytes_max is {got}; it must be at least {CACHE_BYTES_MIN}"
            )));
        }
        config.cache = directory.join(config.cache);
        for source in &mut config.tdx {
            if let TdxSource::File { path } = source {
                *path = directory.join(&*path);
            }
        }
        for source in &mut config.rim {
            if let RimSource::Directory { path } = source {
                *path = directory.join(&*path);
            }
        }
        Ok(config)
    }
}

impl TdxSource {
    fn timeout_ms(&self) -> Option<u64> {
        match self {
            TdxSource::Pcs { timeout_ms, .. } | TdxSource::Pccs { timeout_ms, .. } => {
                Some(*timeout_ms)
            }
            TdxSource::File { .. } => None,
        }
    }
}

impl RimSource {
    fn timeout_ms(&self) -> Option<u64> {
        match self {
            RimSource::Rim { timeout_ms, .. } => Some(*timeout_ms),
            RimSource::Directory { .. } => None,
        }
    }
}

impl OcspSource {
    fn timeout_ms(&self) -> Option<u64> {
        let OcspSource::Ocsp { timeout_ms, .. } = self;
        Some(*timeout_ms)
    }
}

impl fmt::Display for TdxSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TdxSource::Pcs { url, .. } => write!(f, "pcs {url}"),
            TdxSource::Pccs { url, .. } => write!(f, "pccs {url}"),
            TdxSource::File { path } => write!(f, "file {}", path.display()),
        }
    }
}

impl fmt::Display for RimSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RimSource::Rim { url, .. } => write!(f, "rim {url}"),
            RimSource::Directory { path } => write!(f, "directory {}", path.display()),
        }
    }
}

impl fmt::Display for OcspSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OcspSource::Ocsp { url, .. } = self;
        write!(f, "ocsp {url}")
    }
}

impl TryFrom<String> for BaseUrl {
    type Error = &'static str;
    fn try_from(url: String) -> Result<Self, &'static str> {
        let rest = url
            .strip_prefix("http://")
            .or_else(|| url.strip_prefix("https://"))
            .ok_or("a source's URL must begin with http:// or https://")?;
        let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '@' | '?' | '#' | '\\');
        if rest.is_empty() || rest.starts_with('/') || !rest.chars().all(plain) {
            return Err("a source's URL may have a host and a path, and nothing else");
        }
        Ok(BaseUrl(url.trim_end_matches('/').to_owned()))
    }
}

impl BaseUrl {
    /// The URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn listen_default() -> SocketAddr {
    ([127, 0, 0, 1], 9002).into()
}

fn cache_bytes_default() -> u64 {
    64 * 1024 * 1024
}

fn timeout_default() -> u64 {
    20_000
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../collateral.example.yaml");

    #[test]
    fn the_example_file_parses() {
        let config =
            CollateralConfig::from_yaml(EXAMPLE, Path::new("/etc/chrysalis")).expect("the example");
        assert!(config.cache.starts_with("/etc/chrysalis"));
        let sources: Vec<_> = config.tdx.iter().map(ToString::to_string).collect();
        assert_eq!(
            sources,
            [
                "pcs https://api.trustedservices.intel.com",
                "pccs https://pccs.example.org:8081",
                "file /etc/chrysalis/collateral.json"
            ]
        );
        assert_eq!(config.rim.len(), 2);
        assert_eq!(
            config.ocsp[0].to_string(),
            "ocsp https://ocsp.ndis.nvidia.com"
        );
    }

    #[test]
    fn an_unknown_key_is_an_error_at_every_level() {
        for (from, to) in [
            ("cache: ", "cash: x\ncache: "),
            ("  - kind: pccs\n", "  - kind: pccs\n    timeout: 5\n"),
            (
                "  - kind: directory\n",
                "  - kind: directory\n    url: http://a\n",
            ),
            ("  - kind: ocsp\n", "  - kind: ocsp\n    nonce: false\n"),
        ] {
            assert!(EXAMPLE.contains(from), "the example has `{from}`");
            let text = EXAMPLE.replacen(from, to, 1);
            let error = CollateralConfig::from_yaml(&text, Path::new("")).expect_err(to);
            assert!(error.to_string().contains("unknown field"), "{error}");
        }
    }

    #[test]
    fn values_outside_their_range_are_refused() {
        for (from, to) in [
            ("kind: pccs", "kind: pcss"),
            ("https://pccs.example.org:8081", "ftp://pccs.example.org"),
            (
                "https://pccs.example.org:8081",
                "https://user@pccs.example.org",
            ),
            ("https://pccs.example.org:8081", "https:///x"),
            ("https://pccs.example.org:8081", "https://a?b=c"),
            ("timeout_ms: 5000", "timeout_ms: 0"),
            ("timeout_ms: 5000", "timeout_ms: 120001"),
            ("cache_bytes_max: 67108864", "cache_bytes_max: 1000"),
        ] {
            assert!(EXAMPLE.contains(from), "the example has `{from}`");
            let text = EXAMPLE.replacen(from, to, 1);
            assert!(
                CollateralConfig::from_yaml(&text, Path::new("")).is_err(),
                "{to}"
            );
        }
        let many = "\n  - kind: directory\n    path: a".repeat(SOURCES_MAX + 1);
        let text = format!("cache: c\nrim:{many}\n");
        assert!(CollateralConfig::from_yaml(&text, Path::new("")).is_err());
    }
}
