//! The configuration file, the only place that reads YAML, and the files it names.
//!
//! Trusted: it is the developer's own. Unknown keys are errors all the same, because a misspelt limit is no limit.
//! Paths in it are relative to the file itself.

use crate::budget::{DEFAULT, KeyLimits, Limits};
use crate::chain::RegistryRule;
use crate::error::{day_unix_s, shown};
use crate::files::refuse_if_readable;
use crate::limits::{CONFIG_BYTES_MAX, KEY_FILE_BYTES_MAX, KEYS_MAX, SMALL_FILE_BYTES_MAX};
use crate::transport::Transport;
use crate::trust::Minimum;
pub use crate::vectors::VectorsConfig;
use ed25519_dalek::SigningKey;
use model::text::conversation::is_word;
use serde::{Deserialize, Deserializer};
use settlement::{Address, ChainId, ChannelTerms, Nano};
use std::io::Read;
use std::path::{Path, PathBuf};
use wire::Digest;
use zeroize::Zeroizing;

/// Why the configuration, or a file that it names, is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the configuration is refused: {0}")]
pub struct ConfigError(pub String);

/// What the sidecar is told by its owner.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where `serve` listens.
    #[serde(default = "listen_default")]
    pub listen: String,
    /// The key that applications must show, made when the file is absent. A socket needs none.
    #[serde(default = "api_key_default")]
    pub api_key_file: PathBuf,
    /// The proxy, `http://host:port`.
    pub proxy: String,
    /// The chain that settles.
    pub chain: ChainConfig,
    /// The session key that signs envelopes and vouchers: 64 hexadecimal characters of seed.
    pub payer_key_file: PathBuf,
    /// The wallet's key, needed to open a channel and for nothing else.
    pub wallet_key_file: Option<PathBuf>,
    /// The channel that pays. Give this or `terms`.
    #[serde(default, deserialize_with = "address_option")]
    pub channel: Option<Address>,
    /// The channel's terms, from which its address follows. Give this or `channel`.
    pub terms: Option<TermsConfig>,
    /// What the guest should measure to.
    pub manifest: PathBuf,
    /// The profile it must have been measured with.
    pub profile: String,
    /// Models that may be used, by root.
    pub models: Vec<ModelConfig>,
    /// The file that holds vouchers and receipts.
    pub state: PathBuf,
    /// Where prompts and answers are kept for `chrysalis check`; they are not, when absent.
    pub keep_jobs: Option<KeepConfig>,
    /// Where vectors of texts are kept, so that the same text is not asked for again; they are not, when absent.
    pub embeddings_cache: Option<VectorsConfig>,
    /// What was learned about platforms, for all channels of this user; in the user's state directory when absent.
    pub trust: Option<PathBuf>,
    /// The oldest platform that is accepted, beyond what is compiled in.
    #[serde(default)]
    pub tcb: TcbConfig,
    /// The most that one job may cost.
    #[serde(deserialize_with = "nano")]
    pub cost_max_nano: Nano,
    /// The most that all jobs of one UTC day may cost together; only the deposit is a limit when absent.
    #[serde(default, deserialize_with = "nano_option")]
    pub day_max_nano: Option<Nano>,
    /// Keys of applications besides `api_key_file`, and what each may spend.
    #[serde(default)]
    pub keys: Vec<KeyConfig>,
    /// The longest a whole answer may take.
    #[serde(default = "deadline_default")]
    pub deadline_ms: u32,
    /// The longest the first token may take.
    #[serde(default = "first_token_default")]
    pub first_token_ms: u32,
    /// How long a request waits while others are in its way.
    #[serde(default = "queue_default")]
    pub queue_ms: u32,
    /// A test root instead of Intel's; refused unless the command line names the same file.
    pub insecure_test_root: Option<PathBuf>,
}

/// How jobs are kept that may be checked later. What is kept is their content.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeepConfig {
    /// A directory that only its owner may enter.
    pub directory: PathBuf,
    /// For so many days.
    #[serde(default = "keep_days_default")]
    pub days: u32,
    /// MiB of all of them; the oldest go first.
    #[serde(default = "keep_mib_default")]
    pub mib: u32,
}

fn keep_days_default() -> u32 {
    7
}

pub(crate) fn keep_mib_default() -> u32 {
    256
}

/// The oldest platform to accept.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TcbConfig {
    /// The lowest evaluation number of Intel's collateral.
    #[serde(default)]
    pub evaluation_number_min: u32,
    /// The day up to which a platform must have all fixes, such as `2024-11-13`.
    pub date_min: Option<String>,
}

impl TcbConfig {
    /// As a verifier takes it.
    pub fn minimum(&self) -> Result<Minimum, ConfigError> {
        let date = self.date_min.as_deref();
        let unix_s = date.map(|date| {
            day_unix_s(date).ok_or_else(|| {
                let date = shown(date);
                ConfigError(format!(
                    "`tcb.date_min` is {date}; expected a day such as 2024-11-13"
                ))
            })
        });
        Ok(Minimum {
            tcb_evaluation_number: self.evaluation_number_min,
            tcb_unix_s: unix_s.transpose()?.unwrap_or_default(),
        })
    }
}

/// How to reach the chain.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainConfig {
    /// The toncenter API, `https://host` or `http://host:port`.
    pub toncenter: String,
    /// TON global id.
    pub id: i32,
    /// The least that a provider's stake must hold before a job is sealed to its workers; none is asked for when absent.
    #[serde(default, deserialize_with = "nano_option")]
    pub stake_min_nano: Option<Nano>,
    /// The registry that says which images, platforms, GPUs and prices are accepted; none is asked when absent.
    #[serde(default, deserialize_with = "address_option")]
    pub registry: Option<Address>,
    /// The lowest version of it that is accepted, besides the highest that was ever seen.
    #[serde(default)]
    pub registry_version_min: u64,
}

/// A model on the allow-list.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The name that requests use.
    pub id: String,
    /// Digest over the model's files, or the root hash of its volume: 64 hexadecimal characters.
    #[serde(deserialize_with = "digest")]
    pub root: Digest,
    /// Directory with `tokenizer.json` and `tokenizer_config.json`.
    pub dir: PathBuf,
    /// The description of its volume (`model.json`), when the root is the volume's root hash.
    #[serde(default)]
    pub volume: Option<PathBuf>,
    /// To how many numbers its vectors may be cut: those that it was trained for (Matryoshka), which only its maker knows.
    #[serde(default)]
    pub dimensions: Vec<u32>,
}

/// A key that applications show, and what may be spent with it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyConfig {
    /// By which the books name it. `default` is the key of `api_key_file`.
    pub name: String,
    /// The key, made when the file is absent. Only `default` has none here.
    pub file: Option<PathBuf>,
    /// The most that one job may cost.
    #[serde(default, deserialize_with = "nano_option")]
    pub job_max_nano: Option<Nano>,
    /// The most that its jobs of one UTC day may cost.
    #[serde(default, deserialize_with = "nano_option")]
    pub day_max_nano: Option<Nano>,
}

/// What a channel is made of; its address is a function of this and of the payer's keys.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TermsConfig {
    /// Who is paid.
    #[serde(deserialize_with = "address")]
    pub payee: Address,
    /// The payee's key, which endorses keysets.
    #[serde(deserialize_with = "digest")]
    pub payee_key: Digest,
    /// The payer's wallet; the wallet of `wallet_key_file` when absent.
    #[serde(default, deserialize_with = "address_option")]
    pub payer: Option<Address>,
    /// Seconds between an announced close and the close.
    pub close_delay_s: u32,
    /// Unix seconds after which no voucher can be claimed.
    pub claims_until: u32,
    /// Tells channels of equal terms apart.
    #[serde(default)]
    pub salt: u64,
}

impl Config {
    /// Reads a configuration file and makes its paths absolute.
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        let bytes = read_file(path, CONFIG_BYTES_MAX)?;
        let text = String::from_utf8(bytes).map_err(|_| refused(path, "not UTF-8"))?;
        let directory = path.parent().unwrap_or(Path::new("."));
        Config::parse(&text, directory).map_err(|error| refused(path, &error.0))
    }

    /// Parses the text of a configuration file that lies in `directory`.
    pub fn parse(text: &str, directory: &Path) -> Result<Config, ConfigError> {
        let mut config: Config =
            serde_yaml::from_str(text).map_err(|e| ConfigError(e.to_string()))?;
        if config.channel.is_some() == config.terms.is_some() {
            let reason = "give exactly one of `channel` and `terms`";
            return Err(ConfigError(reason.into()));
        }
        check_keys(&config.keys)?;
        if let Some(socket) = config.listen.strip_prefix("unix:") {
            config.listen = format!("unix:{}", directory.join(socket).display());
        }
        let required = [
            &mut config.payer_key_file,
            &mut config.manifest,
            &mut config.state,
            &mut config.api_key_file,
        ];
        let optional = [
            &mut config.wallet_key_file,
            &mut config.insecure_test_root,
            &mut config.trust,
        ];
        let kept = { config.keep_jobs.as_mut() }.map(|keep| &mut keep.directory);
        let vectors = { config.embeddings_cache.as_mut() }.map(|cache| &mut cache.file);
        let models = config.models.iter_mut();
        let models = models.flat_map(|model| [Some(&mut model.dir), model.volume.as_mut()]);
        let keys = config.keys.iter_mut().filter_map(|key| key.file.as_mut());
        let paths = required.into_iter().chain(models.flatten()).chain(keys);
        for path in paths
            .chain(optional.into_iter().flatten())
            .chain(kept)
            .chain(vectors)
        {
            *path = directory.join(&*path);
        }
        Ok(config)
    }

    /// Takes the test root that the command line names. One in the file alone is refused: it must be named there, too.
    pub fn confirm_test_root(&mut self, named: Option<&Path>) -> Result<bool, ConfigError> {
        let Some(named) = named else {
            return Ok(false);
        };
        // Two copies of one root are the same; two files that do not exist are not.
        let root = |path: &Path| read_file(path, SMALL_FILE_BYTES_MAX);
        let same =
            |a: &Path, b: &Path| a == b || matches!((root(a), root(b)), (Ok(a), Ok(b)) if a == b);
        match &self.insecure_test_root {
            Some(path) if !same(path, named) => Err(ConfigError(format!(
                "--insecure-test-root names {}, the configuration names {}",
                named.display(),
                path.display()
            ))),
            _ => {
                self.insecure_test_root = Some(named.to_owned());
                Ok(true)
            }
        }
    }

    /// Refuses a test root that only the file names.
    pub(crate) fn refuse_unconfirmed_test_root(&self, confirmed: bool) -> Result<(), ConfigError> {
        match &self.insecure_test_root {
            Some(path) if !confirmed => Err(ConfigError(format!(
                "it names the test root {}; confirm it with --insecure-test-root, or remove the line to trust Intel's",
                path.display()
            ))),
            _ => Ok(()),
        }
    }

    /// What its owner allows to be spent.
    pub fn limits(&self) -> Limits {
        let keys = self.keys.iter().map(|key| {
            let (job, day) = (key.job_max_nano, key.day_max_nano);
            (key.name.clone(), KeyLimits { job, day })
        });
        Limits {
            day: self.day_max_nano,
            keys: keys.collect(),
        }
    }

    /// The chain's id.
    pub fn chain_id(&self) -> ChainId {
        ChainId(self.chain.id)
    }

    /// The registry that the file names.
    pub fn registry(&self) -> Option<RegistryRule> {
        Some(RegistryRule {
            address: self.chain.registry?,
            chain: self.chain_id(),
            version_min: self.chain.registry_version_min,
        })
    }

    /// The TON node. On a live chain it is asked over TLS or on this host: an answer about money that anybody on the way
    /// could have given is refused.
    ///
    /// # Errors
    /// It is no such address.
    pub fn node(&self) -> Result<Transport, ConfigError> {
        let node = Transport::new(&self.chain.toncenter)?;
        match !self.chain_id().is_live() || node.is_private() {
            true => Ok(node),
            false => Err(ConfigError(format!(
                "chain.toncenter `{node}`: on a live chain a node is asked over https://, or on this host"
            ))),
        }
    }

    /// The terms of the channel, when the file gives them.
    pub fn channel_terms(&self, payer_key: [u8; 32]) -> Result<Option<ChannelTerms>, ConfigError> {
        let Some(terms) = &self.terms else {
            return Ok(None);
        };
        let payer = match terms.payer {
            Some(payer) => payer,
            None => self.wallet()?.address(),
        };
        Ok(Some(ChannelTerms {
            chain: self.chain_id(),
            payer,
            payee: terms.payee,
            payer_key,
            payee_key: terms.payee_key.0,
            close_delay_s: terms.close_delay_s,
            claims_until: terms.claims_until,
            salt: terms.salt,
        }))
    }

    /// The wallet, when the file names its key.
    pub fn wallet(&self) -> Result<settlement::Wallet, ConfigError> {
        let Some(path) = &self.wallet_key_file else {
            let reason = "give `wallet_key_file`, whose wallet pays for opening a channel";
            return Err(ConfigError(reason.into()));
        };
        let seed = read_seed(path)?;
        Ok(settlement::Wallet::from_seed(&seed, self.chain_id()))
    }
}

/// Each key has a name of its own and a file; the default one has its file elsewhere.
fn check_keys(keys: &[KeyConfig]) -> Result<(), ConfigError> {
    for (index, key) in keys.iter().enumerate() {
        let refuse = |what: &str| {
            let name = shown(&key.name);
            Err(ConfigError(format!(
                "`keys[{index}]` is named `{name}`: {what}"
            )))
        };
        if !is_word(&key.name) {
            return refuse("a name is 1 to 64 letters, digits and `_-.:`");
        }
        if keys[..index].iter().any(|other| other.name == key.name) {
            return refuse("another key has that name");
        }
        match (key.name == DEFAULT, &key.file) {
            (true, Some(_)) => return refuse("its file is `api_key_file`; leave `file` out"),
            (false, None) => return refuse("`file` is missing"),
            _ => {}
        }
    }
    match keys.len() <= KEYS_MAX {
        true => Ok(()),
        false => Err(ConfigError(format!("`keys` has more than {KEYS_MAX} keys"))),
    }
}

/// Reads a key: 64 hexadecimal characters in a file.
pub fn read_key(path: &Path) -> Result<SigningKey, ConfigError> {
    Ok(SigningKey::from_bytes(&*read_seed(path)?))
}

fn read_seed(path: &Path) -> Result<Zeroizing<[u8; 32]>, ConfigError> {
    let entry = std::fs::metadata(path).map_err(|e| refused(path, &e.to_string()))?;
    refuse_if_readable(path, &entry)?;
    let text = Zeroizing::new(read_file(path, KEY_FILE_BYTES_MAX)?);
    let mut seed = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.trim_ascii(), &mut seed[..])
        .map_err(|_| refused(path, "a key file holds 64 hexadecimal characters"))?;
    Ok(seed)
}

/// Reads a file of at most `max` bytes.
pub(crate) fn read_file(path: &Path, max: u64) -> Result<Vec<u8>, ConfigError> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(max + 1).read_to_end(&mut bytes))
        .map_err(|e| refused(path, &e.to_string()))?;
    if bytes.len() as u64 > max {
        return Err(refused(path, &format!("more than {max} bytes")));
    }
    Ok(bytes)
}

fn refused(path: &Path, reason: &str) -> ConfigError {
    ConfigError(format!("{}: {reason}", path.display()))
}

fn api_key_default() -> PathBuf {
    "api.key".into()
}

fn listen_default() -> String {
    "127.0.0.1:10000".into()
}

fn deadline_default() -> u32 {
    120_000
}

fn queue_default() -> u32 {
    15_000
}

fn first_token_default() -> u32 {
    60_000
}

/// An amount: a decimal number, quoted or not. A YAML integer keeps all 64 bits.
fn nano<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Nano, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Amount {
        Number(u64),
        Text(String),
    }
    match Amount::deserialize(deserializer)? {
        Amount::Number(amount) => Ok(Nano(amount)),
        Amount::Text(text) => text.parse().map_err(serde::de::Error::custom),
    }
}

fn nano_option<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Nano>, D::Error> {
    nano(deserializer).map(Some)
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Address, D::Error> {
    let text = String::deserialize(deserializer)?;
    Address::from_any(&text).map_err(serde::de::Error::custom)
}

fn address_option<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Address>, D::Error> {
    match Option::<String>::deserialize(deserializer)? {
        Some(text) => Address::from_any(&text)
            .map(Some)
            .map_err(serde::de::Error::custom),
        None => Ok(None),
    }
}

fn digest<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
    let text = String::deserialize(deserializer)?;
    let mut digest = [0; 32];
    hex::decode_to_slice(&text, &mut digest)
        .map_err(|_| serde::de::Error::custom("expected 64 hexadecimal digits"))?;
    Ok(Digest(digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../example.yaml");

    #[test]
    fn the_example_file_parses_and_its_paths_are_beside_it() {
        let volume = EXAMPLE.replace("# volume:", "volume:");
        let config = Config::parse(&volume, Path::new("/etc/chrysalis")).unwrap();
        let paths = config
            .models
            .iter()
            .flat_map(|model| [Some(&model.dir), model.volume.as_ref()]);
        let paths: Vec<_> = paths.flatten().collect();
        assert_eq!(paths.len(), 2);
        assert!(paths.iter().all(|path| path.starts_with("/etc/chrysalis")));
        assert_eq!(config.listen, "127.0.0.1:10000");
        assert!(config.state.starts_with("/etc/chrysalis"));
        assert!(config.insecure_test_root.is_none());
    }

    #[test]
    fn an_unknown_key_is_named_and_refused() {
        let error =
            Config::parse(&format!("{EXAMPLE}\ncost_max: 1\n"), Path::new(".")).unwrap_err();
        assert!(
            error.to_string().contains("unknown field `cost_max`"),
            "{error}"
        );
    }

    #[test]
    fn keys_have_names_of_their_own_and_files_beside_the_configuration() {
        let read = |keys: &str| {
            let text = format!("{EXAMPLE}\nday_max_nano: 900\nkeys: {keys}\n");
            Config::parse(&text, Path::new("/etc/chrysalis"))
        };
        let good =
            "[{name: default, day_max_nano: 7}, {name: ci, file: ci.key, job_max_nano: \"5\"}]";
        let config = read(good).unwrap();
        let file = config.keys[1].file.as_deref();
        assert_eq!(file, Some(Path::new("/etc/chrysalis/ci.key")));
        let limits = config.limits();
        assert_eq!(limits.day, Some(Nano(900)));
        assert_eq!(limits.keys["default"].day, Some(Nano(7)));
        assert_eq!(limits.keys["ci"].job, Some(Nano(5)));
        for (bad, says) in [
            ("[{name: ci}]", "`file` is missing"),
            ("[{name: default, file: a}]", "leave `file` out"),
            ("[{name: a b, file: a}]", "letters"),
            ("[{name: a, file: a}, {name: a, file: b}]", "another key"),
            (
                "[{name: a, file: a, day_max: 1}]",
                "unknown field `day_max`",
            ),
        ] {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_live_chain_is_not_asked_in_the_clear() {
        for (node, id, good) in [
            ("http://10.0.0.1:8081", "20241", true),
            ("http://10.0.0.1:8081", "-239", false),
            ("http://10.0.0.1:8081", "-3", false),
            ("http://127.0.0.1:8081", "-239", true),
            ("https://ton.example/api", "-239", true),
        ] {
            let text = EXAMPLE
                .replace(
                    "toncenter: http://127.0.0.1:8081",
                    &format!("toncenter: {node}"),
                )
                .replace("id: 20241", &format!("id: {id}"));
            let config = Config::parse(&text, Path::new(".")).unwrap();
            assert_eq!(config.node().is_ok(), good, "{node} {id}");
        }
    }

    #[test]
    fn a_channel_is_given_once() {
        let twice = EXAMPLE.replace("# channel:", "channel:");
        let error = Config::parse(&twice, Path::new(".")).unwrap_err();
        assert!(error.to_string().contains("exactly one"), "{error}");
    }

    #[test]
    fn a_test_root_in_the_file_must_be_the_one_a_person_names() {
        let text = format!("{EXAMPLE}\ninsecure_test_root: root.der\n");
        let mut config = Config::parse(&text, Path::new("/a")).unwrap();
        assert_eq!(config.confirm_test_root(None), Ok(false));
        assert!(
            config
                .confirm_test_root(Some(Path::new("/b/root.der")))
                .is_err()
        );
        assert_eq!(
            config.confirm_test_root(Some(Path::new("/a/root.der"))),
            Ok(true)
        );
    }
}
