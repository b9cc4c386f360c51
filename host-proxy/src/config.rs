//! The operator's configuration. Whoever writes it can make the proxy slow or useless, and can lose the operator's own
//! money; no client and no guest trusts any of it. Unknown keys are errors.

mod collateral;
mod node_url;
mod service;

use crate::credit::Credit;
use crate::error::{Context, Error, Fault, read_file};
use crate::guest::GuestAddress;
use crate::keys::SecretSource;
use crate::limits::{CALLS_PER_S_MAX, CONFIG_BYTES_MAX, GUESTS_MAX, SWEEP_S_MAX, TWO_NODES_ABOVE};
use crate::store::StatePlace;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use settlement::{Address, ChainId, Nano};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use collateral::{BaseUrl, CollateralConfig, OcspSource, RimSource, TdxSource};
pub use node_url::NodeUrl;
pub use service::{Rate, ServiceConfig, TimeAuthority, TlsFiles};

/// `host-proxy.yaml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where clients connect. Port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Where the guests listen, one at least.
    pub guests: Vec<GuestAddress>,
    /// The node that is asked about channels and that takes payouts.
    pub toncenter: NodeUrl,
    /// The most calls a second that `toncenter` allows; absent: as many as there are.
    pub calls_per_s: Option<u32>,
    /// A second node, which must agree about channels above an amount. A live chain demands it (SECURITY.md 22).
    pub second: Option<SecondNode>,
    /// The chain that settles.
    pub chain: ChainId,
    /// The payee's public key, as the guest's configuration and the channels name it. Its secret is not needed here.
    pub payee_key: [u8; 32],
    /// The stake contract that answers for charges, as the guest's configuration names it; the wallet's address when absent.
    pub stake: Option<Address>,
    /// The wallet's key, which signs payouts.
    pub wallet_key: SecretSource,
    /// The key that endorses the guest's keysets.
    pub endorsing_key: SecretSource,
    /// A file with the payee's word for the endorsing key, made by `keygen` or `delegate`.
    pub delegation: PathBuf,
    /// Where the passphrase of sealed keys is.
    pub passphrase: Option<SecretSource>,
    /// Where Intel's collateral for the guest's platform comes from.
    pub collateral: BundleCollateral,
    /// What the guest is verified by before its keyset is endorsed; only a simulated chain may go without.
    pub guest_files: Option<GuestFiles>,
    /// The books: vouchers, charges and payouts.
    pub state: StatePlace,
    /// What a channel is lent (SECURITY.md 19).
    pub credit: Credit,
    /// When to settle automatically; absent means only what would soon be void.
    pub settle: Option<SettleRule>,
    /// How it serves.
    pub service: ServiceConfig,
}

/// A node of somebody else, asked where one node's word could cost too much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecondNode {
    /// Where it is.
    pub url: NodeUrl,
    /// Channels whose deposit or voucher is above this need both nodes' word.
    pub above: Nano,
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

    fn finish(mut file: File, directory: &Path) -> Result<Self, Error> {
        let service = service::Sections {
            monitor: file.monitor,
            tls: file.tls.take(),
            otlp: file.otlp.take(),
            limits: file.limits.take(),
            log_period_s: file.log_period_s,
            time_authority: file.time_authority.take(),
        };
        if file
            .settle
            .as_ref()
            .is_some_and(|rule| !(1..=SWEEP_S_MAX).contains(&rule.interval_s))
        {
            return Err(refused(format!(
                "settle.interval_s must be 1 to {SWEEP_S_MAX}: a payer may close an hour after it asked to"
            )));
        }
        let keys = Keys::finish(&file, directory)?;
        let credit = Credit::new(file.exposure_start_nano, file.exposure_max_nano);
        let credit = credit.map_err(|why| refused(why.to_string()))?;
        let guests = guests(&file, directory)?;
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
        let (toncenter, second) = nodes(&file.chain)?;
        let calls_per_s = file.chain.calls_per_s;
        if calls_per_s.is_some_and(|calls| !(1..=CALLS_PER_S_MAX).contains(&calls)) {
            return Err(refused(format!(
                "chain.calls_per_s must be 1 to {CALLS_PER_S_MAX}"
            )));
        }
        Ok(Config {
            listen: file.listen,
            guests,
            toncenter,
            calls_per_s,
            second,
            chain: ChainId(file.chain.id),
            payee_key: keys.payee_key,
            stake: stake(file.stake.as_deref())?,
            wallet_key: keys.wallet_key,
            endorsing_key: keys.endorsing_key,
            delegation: keys.delegation,
            passphrase: keys.passphrase,
            collateral,
            guest_files,
            state: keys.state,
            credit,
            settle: file.settle.map(|rule| SettleRule {
                threshold: rule.threshold_nano,
                interval_s: rule.interval_s,
            }),
            service: service.finish(directory)?,
        })
    }
}

/// The addresses of `guest` or of `guests`.
fn guests(file: &File, directory: &Path) -> Result<Vec<GuestAddress>, Error> {
    let texts = match (&file.guest, &file.guests) {
        (Some(one), None) => std::slice::from_ref(one),
        (None, Some(several)) if (1..=GUESTS_MAX).contains(&several.len()) => several,
        (None, Some(several)) => {
            let got = several.len();
            return Err(refused(format!(
                "guests has {got} addresses; 1 to {GUESTS_MAX} are allowed"
            )));
        }
        _ => return Err(refused("set exactly one of `guest` and `guests`")),
    };
    let mut guests = Vec::new();
    for text in texts {
        let guest: Result<GuestAddress, _> = text.parse();
        let guest = guest.context(Fault::Configuration, || format!("guest `{text}`"))?;
        let guest = match guest {
            GuestAddress::Unix(path) => GuestAddress::Unix(directory.join(path)),
            vsock => vsock,
        };
        if guests.contains(&guest) {
            return Err(refused(format!("guest `{text}` is named twice")));
        }
        guests.push(guest);
    }
    Ok(guests)
}

fn stake(text: Option<&str>) -> Result<Option<Address>, Error> {
    let address =
        |text: &str| Address::from_any(text).context(Fault::Configuration, || "stake".to_owned());
    text.map(address).transpose()
}

/// What a configuration says of secrets: the three keys, and the books with what opens them.
struct Keys {
    payee_key: [u8; 32],
    wallet_key: SecretSource,
    endorsing_key: SecretSource,
    delegation: PathBuf,
    passphrase: Option<SecretSource>,
    state: StatePlace,
}

impl Keys {
    fn finish(file: &File, directory: &Path) -> Result<Self, Error> {
        if file.payee_key_file.is_some() {
            return Err(refused(ONE_KEY));
        }
        let missing =
            |key: &str| refused(format!("{key} is missing (see host-proxy/example.yaml)"));
        let source = |key: &str, text: &Option<String>| {
            let text = text.as_deref().ok_or_else(|| missing(key))?;
            // The value may be a key by mistake, so it is not repeated.
            let source = text.parse::<SecretSource>();
            let source = source.context(Fault::Configuration, || key.to_owned())?;
            Ok::<_, Error>(source.within(directory))
        };
        let public = file
            .payee_key
            .as_deref()
            .ok_or_else(|| missing("payee_key"))?;
        let mut payee_key = [0; 32];
        hex::decode_to_slice(public, &mut payee_key)
            .map_err(|_| refused("payee_key must be the payee's public key, 64 hex digits"))?;
        let delegation = file.delegation.as_ref();
        let optional = |key: &str, text: &Option<String>| match text {
            Some(_) => source(key, text).map(Some),
            None => Ok(None),
        };
        let password = optional("state_password", &file.state_password)?;
        let state = StatePlace::new(&file.state, password, directory);
        if state.file().is_some() && file.state_password.is_some() {
            return Err(refused("state_password is set, and state is a file"));
        }
        Ok(Keys {
            payee_key,
            wallet_key: source("wallet_key", &file.wallet_key)?,
            endorsing_key: source("endorsing_key", &file.endorsing_key)?,
            delegation: directory.join(delegation.ok_or_else(|| missing("delegation"))?),
            passphrase: optional("passphrase", &file.passphrase)?,
            state,
        })
    }
}

/// What is said to a configuration of earlier versions.
const ONE_KEY: &str = "payee_key_file is of earlier versions, in which one key was payee, wallet and endorser, and whoever had it \
    took all three. With the earlier version settle every channel and withdraw what the wallet holds. Then run \
    `host-proxy keygen --out keys`, put payee_key, wallet_key, endorsing_key and delegation here as it prints them, name the new payee \
    and payee_key in the guest's configuration, and launch the guest again; clients open new channels";

/// The node, and the second one if it is configured or the chain demands it.
fn nodes(chain: &ChainSection) -> Result<(NodeUrl, Option<SecondNode>), Error> {
    let live = ChainId(chain.id).is_live();
    let parse = |key: &str, text: &str| {
        let named = || format!("{key} `{text}`");
        let url = NodeUrl::parse(text).context(Fault::Configuration, named)?;
        if live && !url.tls && !url.is_loopback() {
            let words = "on a live chain a node is asked over https://, or on this host";
            return Err(refused(format!("{key} `{text}`: {words}")));
        }
        Ok(url)
    };
    let first = parse("chain.toncenter", &chain.toncenter)?;
    let second = match (&chain.second, chain.two_nodes_above_nano) {
        (Some(text), above) => Some(SecondNode {
            url: parse("chain.second", text)?,
            above: above.unwrap_or(TWO_NODES_ABOVE),
        }),
        (None, None) if !live => None,
        (None, _) => {
            return Err(refused(
                "chain.second is missing: on a live chain, and above chain.two_nodes_above_nano, one node's word is not enough",
            ));
        }
    };
    if second.as_ref().is_some_and(|second| second.url == first) {
        return Err(refused("chain.second is the same node as chain.toncenter"));
    }
    Ok((first, second))
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    listen: SocketAddr,
    guest: Option<String>,
    guests: Option<Vec<String>>,
    chain: ChainSection,
    payee_key: Option<String>,
    stake: Option<String>,
    wallet_key: Option<String>,
    endorsing_key: Option<String>,
    delegation: Option<PathBuf>,
    passphrase: Option<String>,
    payee_key_file: Option<serde::de::IgnoredAny>,
    collateral: Option<PathBuf>,
    collateral_sources: Option<PathBuf>,
    guest_manifest: Option<PathBuf>,
    insecure_test_root: Option<PathBuf>,
    state: String,
    state_password: Option<String>,
    exposure_start_nano: Option<Nano>,
    exposure_max_nano: Nano,
    settle: Option<SettleSection>,
    monitor: Option<SocketAddr>,
    tls: Option<service::TlsSection>,
    otlp: Option<BaseUrl>,
    limits: Option<service::LimitsSection>,
    log_period_s: Option<u64>,
    time_authority: Option<service::TimeAuthoritySection>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChainSection {
    toncenter: String,
    calls_per_s: Option<u32>,
    second: Option<String>,
    two_nodes_above_nano: Option<Nano>,
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
        assert_eq!(config.credit.max, Nano(100_000_000));
        assert_eq!(config.credit.start, Nano(40_000_000));
        assert_eq!(config.toncenter.authority, "127.0.0.1:8081");
        let state = config.state.file().expect("a file");
        assert!(state.starts_with("/etc/chrysalis"));
    }

    #[test]
    fn the_single_key_of_earlier_versions_is_refused_with_what_to_do() {
        let old = format!("{EXAMPLE}\npayee_key_file: payee.key\n");
        let error = Config::from_yaml(&old, Path::new("")).expect_err("refused");
        let said = error.to_string();
        assert!(said.contains("host-proxy keygen --out keys"), "{said}");
        for key in ["payee_key", "wallet_key", "endorsing_key", "delegation"] {
            let without = EXAMPLE.replace(&format!("\n{key}: "), &format!("\n# {key}: "));
            let error = Config::from_yaml(&without, Path::new("")).expect_err(key);
            assert!(
                error.to_string().contains(&format!("{key} is missing")),
                "{error}"
            );
        }
        // A key in place of where it is: refused, and not shown.
        let key = "ab".repeat(32);
        let inside = EXAMPLE.replace("file:keys/wallet.key", &key);
        let error = Config::from_yaml(&inside, Path::new("")).expect_err("refused");
        let said = error.to_string();
        assert!(
            said.contains("wallet_key") && !said.contains(&key),
            "{said}"
        );
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
    fn a_live_chain_is_asked_over_tls_and_twice() {
        let live = EXAMPLE.replace("  id: 20241", "  id: -3\n  SECOND")
            + "\nguest_manifest: manifest.json\n";
        let read = |first: &str, second: &str| {
            let text = live
                .replace("http://127.0.0.1:8081", first)
                .replace("SECOND", second);
            Config::from_yaml(&text, Path::new("/etc"))
        };
        const FIRST: &str = "https://testnet.toncenter.com";
        const SECOND: &str = "second: https://ton.example/api\n  two_nodes_above_nano: \"7\"";
        let config = read(FIRST, SECOND).expect("a configuration");
        assert_eq!(
            (config.toncenter.tls, config.toncenter.authority.as_str()),
            (true, "testnet.toncenter.com:443")
        );
        let second = config.second.expect("there");
        assert_eq!(
            (second.above, second.url.prefix.as_str()),
            (Nano(7), "/api")
        );
        for own in [
            "http://127.0.0.1:8081",
            "http://localhost",
            "http://[::1]:1",
        ] {
            read(own, SECOND).expect("nobody is in between");
        }
        let refused = |first, second, said: &str| {
            let error = read(first, second).expect_err("refused").to_string();
            assert!(error.contains(said), "{error}");
        };
        refused("http://ton.example", SECOND, "over https://");
        refused(FIRST, "second: http://10.0.0.1", "over https://");
        refused(FIRST, "", "chain.second is missing");
        refused(FIRST, &format!("second: {FIRST}"), "the same node");
    }

    #[test]
    fn a_database_is_a_url_and_its_password_is_elsewhere() {
        let line = "state: host-proxy.sqlite\n";
        assert!(EXAMPLE.contains(line));
        let read =
            |lines: &str| Config::from_yaml(&EXAMPLE.replace(line, lines), Path::new("/etc"));
        let url = "postgresql://proxy@db.example/books";
        let config = read(&format!("state: {url}\nstate_password: file:db.password\n"));
        let expected = StatePlace::Database {
            url: url.to_owned(),
            password: Some(SecretSource::File("/etc/db.password".into())),
        };
        assert_eq!(config.expect("a configuration").state, expected);
        for refused in [
            format!("state: {url}\nstate_password: hunter2\n"),
            format!("{line}state_password: file:db.password\n"),
        ] {
            let error = read(&refused).expect_err("refused").to_string();
            assert!(error.contains("state_password"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        // One that is in the URL is not shown.
        let shown = StatePlace::new("postgresql://a:hunter2@db.example/b", None, Path::new(""));
        assert_eq!(shown.to_string(), "postgresql://…@db.example/b");
    }

    #[test]
    fn on_a_live_chain_the_guest_must_be_verified() {
        let read = |text: &str| Config::from_yaml(text, Path::new("/etc"));
        let live = EXAMPLE.replace("  id: 20241", "  id: -3\n  second: https://ton.example");
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
            ("guest: unix:guest.sock", "guests: []"),
            ("guest: unix:guest.sock", "guests: [\"unix:a\", \"unix:a\"]"),
            (
                "guest: unix:guest.sock",
                "guest: unix:a\nguests: [\"unix:b\"]",
            ),
            ("http://127.0.0.1:8081", "toncenter.com"),
            ("http://127.0.0.1:8081", "ftp://toncenter.com"),
            ("http://127.0.0.1:8081", "https://user@toncenter.com"),
            (
                "  id: 20241",
                "  id: 20241\n  second: http://127.0.0.1:8081",
            ),
            ("  id: 20241", "  id: 20241\n  two_nodes_above_nano: \"5\""),
            ("  id: 20241", "  id: 20241\n  calls_per_s: 0"),
            ("interval_s: 300", "interval_s: 0"),
            ("payee_key: ", "stake: nowhere\npayee_key: "),
            ("interval_s: 300", "interval_s: 901"),
            ("exposure_max_nano: 100000000", "exposure_max_nano: 0"),
            ("exposure_max_nano: 100000000", "exposure_max_nano: -1"),
            (
                "exposure_start_nano: 40000000",
                "exposure_start_nano: 100000001",
            ),
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
