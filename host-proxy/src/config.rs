//! The operator's file. Whoever writes it can make the proxy slow or useless, and can lose the operator's own
//! money; no client and no guest believes a word of it. Unknown keys are errors.

mod collateral;

use crate::guest::{GuestAddress, GuestAddressError};
use crate::limits::CONFIG_BYTES_MAX;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use settlement::{ChainId, Nano};
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use collateral::{BaseUrl, CollateralConfig, OcspSource, RimSource, TdxSource};

/// What `host-proxy` runs by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where clients connect. Port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Where the guest listens.
    pub guest: GuestAddress,
    /// The node that is asked about channels and that takes payouts.
    pub toncenter: NodeUrl,
    /// The chain that settles.
    pub chain: ChainId,
    /// A file with the seed of the payee's key.
    pub payee_key_file: PathBuf,
    /// Where Intel's collateral for the guest's platform comes from.
    pub collateral: CollateralFrom,
    /// The SQLite file of vouchers, charges and payouts.
    pub state: PathBuf,
    /// W: the most that one channel may owe without a voucher (SECURITY.md 19).
    pub exposure_max: Nano,
    /// Settling without being asked; absent means only by command.
    pub settle: Option<SettleRule>,
}

/// Where the collateral of a bundle comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CollateralFrom {
    /// A JSON file, read again for each attestation.
    File(PathBuf),
    /// Sources and a cache, which a [`CollateralConfig`] in this file names.
    Sources(PathBuf),
}

/// When to settle without being asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettleRule {
    /// Settle a channel when its voucher exceeds what is paid by this much.
    pub threshold: Nano,
    /// Seconds between two looks.
    pub interval_s: u64,
}

/// `http://host:port` and an optional path in front of the API's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeUrl {
    /// `host:port`.
    pub authority: String,
    /// Empty, or a path without a slash at its end.
    pub prefix: String,
}

/// Why a configuration is refused. The operator is at fault.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is longer than any of ours.
    #[error("the configuration is longer than {CONFIG_BYTES_MAX} bytes")]
    TooLong,
    /// Not the YAML it should be: the parser says where.
    #[error("the configuration is not understood: {0}")]
    Yaml(#[from] serde_yaml::Error),
    /// The guest's address.
    #[error("guest: {0}")]
    Guest(#[from] GuestAddressError),
    /// The node's address.
    #[error("chain.toncenter: {0}")]
    Node(&'static str),
    /// A number outside its range.
    #[error("{0}")]
    Range(&'static str),
}

impl Config {
    /// Reads a file. Relative paths in it start at its directory.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let (file, directory) = read_yaml(path)?;
        Self::finish(file, &directory)
    }

    /// Parses a file's text; `directory` is where its relative paths start.
    pub fn from_yaml(text: &str, directory: &Path) -> Result<Self, ConfigError> {
        Self::finish(parse(text)?, directory)
    }

    fn finish(file: File, directory: &Path) -> Result<Self, ConfigError> {
        if file
            .settle
            .as_ref()
            .is_some_and(|rule| rule.interval_s == 0)
        {
            return Err(ConfigError::Range("settle.interval_s is at least 1"));
        }
        if file.exposure_max_nano == Nano::ZERO {
            return Err(ConfigError::Range(
                "exposure_max_nano is at least 1, or no job could be served",
            ));
        }
        let guest = match file.guest.parse()? {
            GuestAddress::Unix(path) => GuestAddress::Unix(directory.join(path)),
            vsock => vsock,
        };
        let collateral = match (file.collateral, file.collateral_sources) {
            (Some(path), None) => CollateralFrom::File(directory.join(path)),
            (None, Some(path)) => CollateralFrom::Sources(directory.join(path)),
            _ => {
                return Err(ConfigError::Range(
                    "exactly one of `collateral` and `collateral_sources` is needed",
                ));
            }
        };
        Ok(Config {
            listen: file.listen,
            guest,
            toncenter: NodeUrl::parse(&file.chain.toncenter).map_err(ConfigError::Node)?,
            chain: ChainId(file.chain.id),
            payee_key_file: directory.join(file.payee_key_file),
            collateral,
            state: directory.join(file.state),
            exposure_max: file.exposure_max_nano,
            settle: file.settle.map(|rule| SettleRule {
                threshold: rule.threshold_nano,
                interval_s: rule.interval_s,
            }),
        })
    }
}

/// Reads a file of ours, and says in which directory its relative paths start.
fn read_yaml<T: DeserializeOwned>(path: &Path) -> Result<(T, PathBuf), ConfigError> {
    let refuse = |source| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(refuse)?;
    let mut text = String::new();
    let bytes = file
        .take(CONFIG_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(refuse)?;
    if bytes as u64 > CONFIG_BYTES_MAX {
        return Err(ConfigError::TooLong);
    }
    let directory = path.parent().unwrap_or(Path::new(""));
    Ok((parse(&text)?, directory.to_owned()))
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, ConfigError> {
    Ok(serde_yaml::from_str(text)?)
}

impl NodeUrl {
    /// Takes `http://host[:port][/path]`.
    pub fn parse(url: &str) -> Result<Self, &'static str> {
        let rest = url.strip_prefix("http://").ok_or(
            "this version speaks http:// to a node of one's own; put a TLS tunnel before a public one",
        )?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '@' | '?' | '#' | '\\');
        if authority.is_empty() || !rest.chars().all(plain) {
            return Err("not of the form http://host:port/path");
        }
        let authority = match authority.rsplit_once(':') {
            Some((_, port)) if port.parse::<u16>().is_ok() => authority.to_owned(),
            _ => format!("{authority}:80"),
        };
        Ok(NodeUrl {
            authority,
            prefix: path.trim_end_matches('/').to_owned(),
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    listen: SocketAddr,
    guest: String,
    chain: ChainSection,
    payee_key_file: PathBuf,
    collateral: Option<PathBuf>,
    collateral_sources: Option<PathBuf>,
    state: PathBuf,
    exposure_max_nano: Nano,
    settle: Option<SettleSection>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChainSection {
    toncenter: String,
    id: i32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SettleSection {
    threshold_nano: Nano,
    interval_s: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../example.yaml");

    #[test]
    fn the_example_file_parses() {
        let config = Config::from_yaml(EXAMPLE, Path::new("/etc/chrysalis")).expect("the example");
        assert_eq!(config.chain, ChainId::EMBEDDED);
        assert_eq!(config.exposure_max, Nano(100_000_000));
        assert_eq!(config.toncenter.authority, "127.0.0.1:8081");
        assert!(config.state.starts_with("/etc/chrysalis"));
    }

    #[test]
    fn an_unknown_key_is_an_error_at_every_level() {
        let refused = |text: &str| {
            let error = Config::from_yaml(text, Path::new("")).expect_err(text);
            assert!(error.to_string().contains("unknown field"), "{error}");
        };
        refused(&format!("{EXAMPLE}\nexposure: 7\n"));
        refused(&EXAMPLE.replace("  id: 20241", "  id: 20241\n  key: x"));
        refused(&EXAMPLE.replace("  interval_s: 300", "  interval_s: 300\n  often: yes"));
    }

    #[test]
    fn collateral_comes_from_a_file_or_from_sources() {
        let read = |text: &str| Config::from_yaml(text, Path::new("/etc"));
        let line = "\ncollateral: collateral.json\n";
        assert!(EXAMPLE.contains(line));
        let sources = EXAMPLE.replace(line, "\ncollateral_sources: sources.yaml\n");
        assert_eq!(
            read(&sources).expect("a configuration").collateral,
            CollateralFrom::Sources("/etc/sources.yaml".into())
        );
        for neither_or_both in [
            EXAMPLE.replace(line, "\n"),
            format!("{EXAMPLE}\ncollateral_sources: sources.yaml\n"),
        ] {
            let refused = read(&neither_or_both);
            assert!(matches!(refused, Err(ConfigError::Range(_))), "{refused:?}");
        }
    }

    #[test]
    fn values_outside_their_range_are_refused() {
        for (from, to) in [
            ("guest: unix:", "guest: tcp:"),
            ("http://127.0.0.1:8081", "https://toncenter.com"),
            ("interval_s: 300", "interval_s: 0"),
            ("exposure_max_nano: 100000000", "exposure_max_nano: 0"),
            ("exposure_max_nano: 100000000", "exposure_max_nano: -1"),
            ("listen: 127.0.0.1:9000", "listen: 127.0.0.1"),
        ] {
            assert!(EXAMPLE.contains(from), "the example has `{from}`");
            assert!(
                Config::from_yaml(&EXAMPLE.replace(from, to), Path::new("")).is_err(),
                "{to}"
            );
        }
    }
}
