//! The measured configuration (boundary B7): who is paid, what is offered, at what price. Its digest is extended into
//! RTMR3 before any key exists, so a client that accepts the registers accepts these values.
//!
//! Because it is measured, it does not matter where it comes from: in a VM the host itself hands it over, and a client
//! sees in the registers which one it was. What the host may set unseen is not here: only where to listen, on the command line.

use crate::limits::{
    CONFIG_BYTES_MAX, INTERVAL_MS, JOBS_MAX, KV_MIB_MAX, LIFETIME_S, MEMORY_MIB_MAX, MODELS_MAX,
    NAME_BYTES_MAX, THREADS_MAX, VOLUME_BLOCKS_MAX, VOLUMES_MAX,
};
use crate::{Endpoint, Prices};
use serde::Deserialize;
use settlement::{Address, ChainId, Nano};

/// What the operator configures and the registers vouch for.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasuredConfig {
    /// Always 1.
    pub version: u64,
    /// The image profile: `cpu`, `h100`, or `sim`.
    pub profile: String,
    /// TON global id.
    pub chain: i32,
    /// The account that is paid, `0:<64 hex>`.
    pub payee: String,
    /// The payee's Ed25519 key, 64 hex digits: it endorses keysets.
    pub payee_key: String,
    /// The account whose stake answers for charges.
    pub stake: String,
    /// How long clients may use one keyset, in seconds.
    pub lifetime_s: u32,
    /// Jobs that one keyset serves.
    pub jobs_max: u64,
    /// Costs are rounded up to a multiple of this, in nanoTON.
    pub price_step_nano: u64,
    /// What one channel may owe, in nanoTON.
    pub exposure_max_nano: u64,
    /// The shortest time between two records of a streamed answer.
    pub interval_ms: u16,
    /// Threads that compute; as many as the machine has processors where absent.
    #[serde(default)]
    pub threads: Option<u16>,
    /// Memory that all models may take together, in MiB; what the machine has available where absent. A guest whose models need
    /// more does not start.
    #[serde(default)]
    pub memory_mib: Option<u32>,
    /// Whether the guest attests a GPU before it has keys, and serves nothing without it.
    #[serde(default)]
    pub gpu: bool,
    /// Models on offer.
    pub models: Vec<MeasuredModel>,
}

/// One model on offer.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasuredModel {
    /// The name in requests, and of its directory.
    pub id: String,
    /// `embeddings`, `chat` or `rerank`.
    pub endpoint: MeasuredEndpoint,
    /// The model root, 64 hex digits: of its files in the image, or the root hash of its volume.
    pub root: String,
    /// The rest of what opens its volume; without it, the model's files are in the image.
    #[serde(default)]
    pub volume: Option<MeasuredVolume>,
    /// Tokens of prompt and completion at most.
    pub context_tokens: u32,
    /// How its weights are kept; where absent, as they are stored for chat, in 32 bits for others.
    #[serde(default)]
    pub weights: Option<MeasuredWeights>,
    /// Memory for the keys and values of all its jobs, in MiB: how many run at once. Enough for one job of all of its context
    /// where absent, and for four if that is no more than 256 MiB.
    #[serde(default)]
    pub kv_mib: Option<u32>,
    /// Price of a million prompt tokens, in nanoTON.
    pub prompt_nano: u64,
    /// Price of a million completion tokens, in nanoTON.
    pub completion_nano: u64,
}

/// A disk under dm-verity whose root hash is the model's root, as `image-builder model pack` writes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasuredVolume {
    /// What each hash begins with, 64 hex digits.
    pub salt: String,
    /// Blocks of 4096 bytes that the tree covers.
    pub data_blocks: u64,
}

impl MeasuredVolume {
    /// What each hash begins with.
    pub fn salt(&self) -> [u8; 32] {
        key(&self.salt).expect("checked when the configuration was parsed")
    }
}

/// What a model answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MeasuredEndpoint {
    /// `POST /v1/embeddings`
    Embeddings,
    /// `POST /v1/chat/completions`
    Chat,
    /// `POST /v1/rerank`
    Rerank,
}

/// How weights are kept in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, minicbor::Encode, minicbor::Decode)]
#[serde(rename_all = "lowercase")]
#[cbor(index_only)]
pub enum MeasuredWeights {
    /// 32 bits each.
    #[n(0)]
    F32,
    /// 16 bits each.
    #[n(1)]
    Bf16,
    /// 8 bits each and a scale for 32.
    #[n(2)]
    Q8,
    /// 4 bits each, a scale and a minimum for 32.
    #[n(3)]
    Q4,
}

/// A configuration that cannot be used. The operator is at fault.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs)]
pub enum ConfigError {
    #[error("the measured configuration has {0} bytes or more; {CONFIG_BYTES_MAX} are allowed")]
    TooLong(usize),
    #[error("the measured configuration does not parse: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the measured configuration's `{field}` must be {must}")]
    Field {
        field: &'static str,
        must: &'static str,
    },
}

impl MeasuredConfig {
    /// Parses and checks a configuration.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        if bytes.len() > CONFIG_BYTES_MAX {
            return Err(ConfigError::TooLong(bytes.len()));
        }
        let config: MeasuredConfig = serde_json::from_slice(bytes)?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let models = &self.models;
        let account = "an address, 0:<64 hex>";
        let hex = "64 hex digits";
        let usable = [
            ("version", self.version == 1, "1"),
            (
                "profile",
                ["sim", "cpu", "h100"].contains(&self.profile.as_str()),
                "sim, cpu or h100",
            ),
            (
                "gpu",
                self.profile == "sim" || self.gpu == (self.profile == "h100"),
                "true in the profile h100, and in cpu false",
            ),
            (
                "lifetime_s",
                LIFETIME_S.contains(&self.lifetime_s),
                "1 to 3600, since clients use the keys for so long",
            ),
            (
                "interval_ms",
                INTERVAL_MS.contains(&self.interval_ms),
                "10 to 1000: the rhythm of an answer hides its tokens",
            ),
            (
                "price_step_nano",
                models
                    .iter()
                    .all(|m| m.prices().fit(Nano(self.price_step_nano))),
                "at least the price of 16 tokens of the dearest kind, since a cost tells a length as closely as this",
            ),
            (
                "exposure_max_nano",
                self.exposure_max_nano >= self.price_step_nano,
                "at least price_step_nano, which is what the smallest job costs",
            ),
            (
                "jobs_max",
                (1..=JOBS_MAX).contains(&self.jobs_max),
                "1 to 1000000",
            ),
            (
                "threads",
                self.threads
                    .is_none_or(|threads| (1..=THREADS_MAX).contains(&threads)),
                "1 to 256",
            ),
            (
                "memory_mib",
                self.memory_mib
                    .is_none_or(|mib| (1..=MEMORY_MIB_MAX).contains(&mib)),
                "1 to 16777216",
            ),
            (
                "models.kv_mib",
                { models.iter() }
                    .filter_map(|m| m.kv_mib)
                    .all(|mib| (1..=KV_MIB_MAX).contains(&mib)),
                "1 to 1048576",
            ),
            (
                "models.kv_mib",
                { models.iter() }
                    .filter(|m| m.endpoint != MeasuredEndpoint::Chat)
                    .all(|m| m.kv_mib.is_none()),
                "absent from a model that does not chat, which keeps none",
            ),
            (
                "models",
                (1..=MODELS_MAX).contains(&models.len()),
                "a list of 1 to 32 models",
            ),
            (
                "models.id",
                models.iter().all(|m| plain_name(&m.id)),
                "1 to 96 of a-z, A-Z, 0-9, `-`, `_` and `.`, no `.` first",
            ),
            (
                "models.root",
                models.iter().all(|m| key(&m.root).is_some()),
                hex,
            ),
            (
                "models.volume",
                self.volumes_are_usable(),
                "on one model at most: a salt of 64 hex digits and 1 to 2^28 blocks",
            ),
            ("payee", self.payee.parse::<Address>().is_ok(), account),
            ("payee_key", key(&self.payee_key).is_some(), hex),
            ("stake", self.stake.parse::<Address>().is_ok(), account),
        ];
        match usable.iter().find(|(_, usable, _)| !usable) {
            Some((field, _, must)) => Err(ConfigError::Field { field, must }),
            None => Ok(()),
        }
    }

    /// As many as a machine has disks for, each of a size that a guest opens.
    fn volumes_are_usable(&self) -> bool {
        let with = self.models.iter().filter(|model| model.volume.is_some());
        with.clone().count() <= VOLUMES_MAX
            && with
                .filter_map(|model| model.volume.as_ref())
                .all(|volume| {
                    key(&volume.salt).is_some()
                        && (1..=VOLUME_BLOCKS_MAX).contains(&volume.data_blocks)
                })
    }

    /// The chain that settles.
    pub fn chain(&self) -> ChainId {
        ChainId(self.chain)
    }

    /// The account that is paid.
    pub fn payee(&self) -> Address {
        self.payee
            .parse()
            .expect("checked when the configuration was parsed")
    }

    /// The account whose stake answers for charges.
    pub fn stake(&self) -> Address {
        self.stake
            .parse()
            .expect("checked when the configuration was parsed")
    }

    /// The key that endorses keysets.
    pub fn payee_key(&self) -> [u8; 32] {
        key(&self.payee_key).expect("checked when the configuration was parsed")
    }

    /// What one channel may owe.
    pub fn exposure_max(&self) -> Nano {
        Nano(self.exposure_max_nano)
    }
}

impl MeasuredModel {
    /// The model root, or the root hash of its volume.
    pub fn root(&self) -> [u8; 32] {
        key(&self.root).expect("checked when the configuration was parsed")
    }

    /// What its tokens cost. None are cached yet.
    pub fn prices(&self) -> Prices {
        Prices {
            prompt: Nano(self.prompt_nano),
            cached: Nano(self.prompt_nano),
            completion: Nano(self.completion_nano),
        }
    }

    /// What it answers.
    pub fn endpoint(&self) -> Endpoint {
        match self.endpoint {
            MeasuredEndpoint::Embeddings => Endpoint::Embeddings,
            MeasuredEndpoint::Chat => Endpoint::Chat,
            MeasuredEndpoint::Rerank => Endpoint::Rerank,
        }
    }
}

/// The id is a directory's name too, so it may not wander.
fn plain_name(id: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !id.is_empty() && id.len() <= NAME_BYTES_MAX && !id.starts_with('.') && id.chars().all(plain)
}

fn key(hex: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    hex::decode_to_slice(hex, &mut out).ok()?;
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn example() -> serde_json::Value {
        serde_json::json!({
            "version": 1, "profile": "sim", "chain": 20241,
            "payee": format!("0:{}", "11".repeat(32)), "payee_key": "22".repeat(32),
            "stake": format!("0:{}", "11".repeat(32)), "lifetime_s": 3600, "jobs_max": 100,
            "price_step_nano": 1000, "exposure_max_nano": 1_000_000_000, "interval_ms": 50, "threads": null, "memory_mib": null,
            "models": [{"id": "tiny-chat", "endpoint": "chat", "root": "33".repeat(32), "context_tokens": 256,
                "kv_mib": null, "weights": null,
                "prompt_nano": 1_000_000, "completion_nano": 2_000_000}],
        })
    }

    #[test]
    fn a_models_volume_is_whole_and_there_are_no_more_than_disks() {
        let volume = serde_json::json!({"salt": "44".repeat(32), "data_blocks": 5});
        let parse = |volumes: &[&serde_json::Value]| {
            let mut config = example();
            let model = config["models"][0].clone();
            config["models"] = volumes
                .iter()
                .enumerate()
                .map(|(number, volume)| {
                    let mut model = model.clone();
                    model["id"] = format!("model-{number}").into();
                    model["volume"] = (*volume).clone();
                    model
                })
                .collect();
            MeasuredConfig::parse(config.to_string().as_bytes())
        };
        let whole = parse(&[&volume]).unwrap().models[0].volume.clone().unwrap();
        assert_eq!((whole.salt(), whole.data_blocks), ([0x44; 32], 5));
        let none = parse(&[&serde_json::Value::Null]).unwrap();
        assert_eq!(none.models[0].volume, None);
        assert!(parse(&[&serde_json::Value::Null, &volume]).is_ok());
        assert!(parse(&[&volume, &volume]).is_err(), "one disk");
        for odd in [
            serde_json::json!({"salt": "44".repeat(32)}),
            serde_json::json!({"data_blocks": 5}),
            serde_json::json!({"salt": "44".repeat(31), "data_blocks": 5}),
            serde_json::json!({"salt": "44".repeat(32), "data_blocks": 0}),
            serde_json::json!({"salt": "44".repeat(32), "data_blocks": 1u64 << 40}),
            serde_json::json!({"salt": "44".repeat(32), "data_blocks": 5, "disk": "/dev/vdc"}),
        ] {
            assert!(parse(&[&odd]).is_err(), "{odd}");
        }
    }

    #[test]
    fn what_computes_may_be_named_and_older_files_stay_valid() {
        let parse = |value: &serde_json::Value| MeasuredConfig::parse(value.to_string().as_bytes());
        let mut config = example();
        config.as_object_mut().unwrap().remove("threads");
        config.as_object_mut().unwrap().remove("memory_mib");
        let model = config["models"][0].as_object_mut().unwrap();
        model.remove("kv_mib");
        model.remove("weights");
        let old = parse(&config).unwrap();
        assert_eq!((old.threads, old.models[0].kv_mib), (None, None));
        config["threads"] = 256.into();
        config["memory_mib"] = 16_777_216.into();
        config["models"][0]["kv_mib"] = 1_048_576.into();
        config["models"][0]["weights"] = "q8".into();
        let named = parse(&config).unwrap();
        assert_eq!(named.models[0].weights, Some(MeasuredWeights::Q8));
        config["models"][0]["endpoint"] = "embeddings".into();
        assert!(parse(&config).is_err(), "nothing is kept there");
        config["models"][0]["kv_mib"] = serde_json::Value::Null;
        assert!(parse(&config).is_ok());
    }

    #[test]
    fn a_configuration_with_anything_odd_is_refused() {
        let parse = |value: &serde_json::Value| MeasuredConfig::parse(value.to_string().as_bytes());
        assert!(parse(&example()).is_ok());
        for (pointer, odd) in [
            ("/version", serde_json::json!(2)),
            ("/profile", serde_json::json!("h100")),
            ("/profile", serde_json::json!("h200")),
            ("/jobs_max", serde_json::json!(0)),
            ("/models", serde_json::json!([])),
            ("/models/0/id", serde_json::json!("../etc")),
            ("/models/0/root", serde_json::json!("33")),
            ("/lifetime_s", serde_json::json!(0)),
            ("/lifetime_s", serde_json::json!(u32::MAX)),
            ("/interval_ms", serde_json::json!(0)),
            ("/interval_ms", serde_json::json!(u16::MAX)),
            ("/price_step_nano", serde_json::json!(31)),
            ("/exposure_max_nano", serde_json::json!(999)),
            ("/payee", serde_json::json!("nobody")),
            ("/payee_key", serde_json::json!("zz")),
            ("/threads", serde_json::json!(0)),
            ("/threads", serde_json::json!(257)),
            ("/memory_mib", serde_json::json!(0)),
            ("/memory_mib", serde_json::json!(16_777_217)),
            ("/models/0/kv_mib", serde_json::json!(0)),
            ("/models/0/kv_mib", serde_json::json!(1_048_577)),
            ("/models/0/weights", serde_json::json!("q5")),
        ] {
            let mut config = example();
            *config.pointer_mut(pointer).unwrap() = odd;
            assert!(parse(&config).is_err(), "{pointer}");
        }
        let mut config = example();
        config["unknown"] = serde_json::json!(1);
        assert!(matches!(parse(&config), Err(ConfigError::Json(_))));
    }
}
