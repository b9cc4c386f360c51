//! The operator's configuration. Whoever writes it can make the proxy slow or useless, and can lose the operator's own
//! money; no client and no guest trusts any of it. Unknown keys are errors.

mod collateral;

use crate::error::{Context, Error, Fault, read_file};
use crate::guest::GuestAddress;
use crate::limits::{CONFIG_BYTES_MAX, SWEEP_S_MAX};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use settlement::{ChainId, Nano};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use collateral::{BaseUrl, CollateralConfig, OcspSource, RimSource, TdxSource};

/// `host-proxy.yaml`.
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
    pub collateral: BundleCollateral,
    /// What the guest is verified by before its keyset is endorsed; only a simulated chain may go without.
    pub guest_files: Option<GuestFiles>,
    /// The SQLite file of vouchers, charges and payouts.
    pub state: PathBuf,
    /// Maximum unpaid cost per channel (SECURITY.md 19).
    pub exposure_max: Nano,
    /// When to settle automatically; absent means only what would soon be void.
    pub settle: Option<SettleRule>,
}

/// Where the collateral of attestation bundles comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BundleCollateral {
    /// A JSON file, read again for each attestation.
    File(PathBuf),
    /// The sources and the cache of a [`CollateralConfig`] in this file.
    Sources(PathBuf),
}

/// What a guest is verified by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestFiles {
    /// The manifest that clients verify it by.
    pub manifest: PathBuf,
    /// A root certificate (DER) instead of Intel's, for a simulated guest.
    pub insecure_test_root: Option<PathBuf>,
}

/// When to settle automatically.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettleRule {
    /// Settle a channel when its voucher exceeds what is paid by this much.
    pub threshold: Nano,
    /// Seconds between two checks, at most [`SWEEP_S_MAX`].
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

impl Config {
    /// Reads a file. Relative paths in it start at its directory.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let (file, directory) = read_yaml(path)?;
        Self::finish(file, &directory).context(Fault::Configuration, || path.display())
    }

    /// Parses a file's text; `directory` is where its relative paths start.
    pub fn from_yaml(text: &str, directory: &Path) -> Result<Self, Error> {
        Self::finish(parse(text)?, directory)
    }

    fn finish(file: File, directory: &Path) -> Result<Self, Error> {
        if file
            .settle
            .as_ref()
            .is_some_and(|rule| !(1..=SWEEP_S_MAX).contains(&rule.interval_s))
        {
            return Err(refused(format!(
                "settle.interval_s must be 1 to {SWEEP_S_MAX}: a payer may close an hour after it asked to"
            )));
        }
        if file.exposure_max_nano == Nano::ZERO {
            return Err(refused("exposure_max_nano is 0; no job could be served"));
        }
        let configuration = Fault::Configuration;
        let guest = file.guest.parse();
        let guest = match guest.context(configuration, || format!("guest `{}`", file.guest))? {
            GuestAddress::Unix(path) => GuestAddress::Unix(directory.join(path)),
            vsock => vsock,
        };
        let collateral = match (file.collateral, file.collateral_sources) {
            (Some(path), None) => BundleCollateral::File(directory.join(path)),
            (None, Some(path)) => BundleCollateral::Sources(directory.join(path)),
            _ => {
                return Err(refused(
                    "set exactly one of `collateral` and `collateral_sources`",
                ));
            }
        };
        let guest_files = match (file.guest_manifest, file.insecure_test_root) {
            (Some(manifest), root) => Some(GuestFiles {
                manifest: directory.join(manifest),
                insecure_test_root: root.map(|root| directory.join(root)),
            }),
            (None, Some(_)) => {
                return Err(refused("insecure_test_root is set without guest_manifest"));
            }
            (None, None) if ChainId(file.chain.id).is_live() => {
                return Err(refused(
                    "guest_manifest is missing: on a live chain a guest is verified before its keys are endorsed",
                ));
            }
            (None, None) => None,
        };
        let node = &file.chain.toncenter;
        Ok(Config {
            listen: file.listen,
            guest,
            toncenter: NodeUrl::parse(node)
                .context(configuration, || format!("chain.toncenter `{node}`"))?,
            chain: ChainId(file.chain.id),
            payee_key_file: directory.join(file.payee_key_file),
            collateral,
            guest_files,
            state: directory.join(file.state),
            exposure_max: file.exposure_max_nano,
            settle: file.settle.map(|rule| SettleRule {
                threshold: rule.threshold_nano,
                interval_s: rule.interval_s,
            }),
        })
    }
}

/// Reads a YAML file; also returns the directory in which its relative paths start.
fn read_yaml<T: DeserializeOwned>(path: &Path) -> Result<(T, PathBuf), Error> {
    let reading = || path.display();
    let text = read_file(path, CONFIG_BYTES_MAX)?;
    let text = String::from_utf8(text).context(Fault::Configuration, reading)?;
    let parsed = parse(&text).context(Fault::Configuration, reading)?;
    let directory = path.parent().unwrap_or(Path::new(""));
    Ok((parsed, directory.to_owned()))
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    serde_yaml::from_str(text).context(Fault::Configuration, || "invalid YAML")
}

fn refused(words: impl Into<String>) -> Error {
    Error::new(Fault::Configuration, words)
}

impl NodeUrl {
    /// Takes `http://host[:port][/path]`.
    pub fn parse(url: &str) -> Result<Self, &'static str> {
        let rest = url
            .strip_prefix("http://")
            .ok_or("only http:// is supported; put a TLS tunnel before a remote node")?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '@' | '?' | '#' | '\\');
        if authority.is_empty() || !rest.chars().all(plain) {
            return Err("it must have the form http://host:port/path");
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
    guest_manifest: Option<PathBuf>,
    insecure_test_root: Option<PathBuf>,
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
            BundleCollateral::Sources("/etc/sources.yaml".into())
        );
        for neither_or_both in [
            EXAMPLE.replace(line, "\n"),
            format!("{EXAMPLE}\ncollateral_sources: sources.yaml\n"),
        ] {
            let refused = read(&neither_or_both);
            let error = refused.expect_err("neither or both").to_string();
            assert!(error.contains("exactly one of"), "{error}");
        }
    }

    #[test]
    fn on_a_live_chain_the_guest_must_be_verified() {
        let read = |text: &str| Config::from_yaml(text, Path::new("/etc"));
        let live = EXAMPLE.replace("id: 20241", "id: -3");
        let error = read(&live).expect_err("refused").to_string();
        assert!(error.contains("guest_manifest is missing"), "{error}");
        let verified = read(&format!("{live}\nguest_manifest: manifest.json\n"));
        let files = verified.expect("a configuration").guest_files;
        assert_eq!(
            files.expect("there").manifest,
            Path::new("/etc/manifest.json")
        );
        assert!(read(&format!("{EXAMPLE}\ninsecure_test_root: root.der\n")).is_err());
    }

    #[test]
    fn values_outside_their_range_are_refused() {
        for (from, to) in [
            ("guest: unix:", "guest: tcp:"),
            ("http://127.0.0.1:8081", "https://toncenter.com"),
            ("interval_s: 300", "interval_s: 0"),
            ("interval_s: 300", "interval_s: 901"),
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
