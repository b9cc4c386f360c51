//! A model on the disk: a GGUF file, a directory as Hugging Face lays it out, or one as `engine pack` writes it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::ValueEnum;
use engine::decoder::{Decoder, Options, PACKED_FILE};
use engine::{Forward, Memory, Packing};
use kernels::Kernels;
use model::decoder::Config;
use model::gguf::config::{Beside, END_TEXTS, ROPE_FACTORS, config_json};
use model::gguf::{self, Header};
use model::packed_file::Reader;
use model::text::gguf::text_files;
use model::text::{TemplateFiles, Text};
use model::weights::{Part, Weights};
use model::{File as ModelFile, FileDigest};

use crate::progress::Progress;

/// The small files beside the weights, in Hugging Face's names.
const CONFIG: &str = "config.json";
const GENERATION: &str = "generation_config.json";
const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// A small file is read to here.
const SMALL_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// How weights are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// 8 bits, with a scale for 32 of them.
    Q8,
    /// 4 bits, with a scale and a minimum for 32 of them; the table of embeddings in 8 bits.
    Q4,
    /// 16 bits.
    Bf16,
    /// 32 bits.
    F32,
}

impl Kind {
    pub fn name(self) -> &'static str {
        self.packed().name()
    }

    pub fn packed(self) -> kernels::Kind {
        match self {
            Kind::Q8 => kernels::Kind::Q8,
            Kind::Q4 => kernels::Kind::Q4,
            Kind::Bf16 => kernels::Kind::Bf16,
            Kind::F32 => kernels::Kind::F32,
        }
    }
}

/// A model that was opened: its configuration is checked, its weights are not read.
pub struct Model {
    /// What it is called: the last part of its path.
    pub name: String,
    pub config: Config,
    /// `config.json`, as it is or made from a GGUF's metadata.
    pub config_json: Vec<u8>,
    pub generation_json: Option<Vec<u8>>,
    pub tokenizer_json: Option<Vec<u8>>,
    pub tokenizer_config_json: Option<Vec<u8>>,
    /// `chat_template.jinja`, and the one for tools.
    pub chat_template: Option<Vec<u8>>,
    pub tool_template: Option<Vec<u8>>,
    /// The files of its weights.
    pub files: Vec<PathBuf>,
    progress: Progress,
}

/// A decoder on a GPU, and the files that its weights came from.
pub type OnGpu = (Box<dyn Forward>, BTreeMap<String, FileDigest>);

impl Model {
    /// Opens a model. `progress` moves when its weights are read.
    pub fn open(path: &Path, progress: &Progress) -> anyhow::Result<Self> {
        let found = match path.is_dir() {
            true => Self::of_directory(path, progress),
            false => Self::of_gguf(path, progress),
        };
        found.with_context(|| format!("the model {}", path.display()))
    }

    fn of_directory(directory: &Path, progress: &Progress) -> anyhow::Result<Self> {
        let config_json = small(&directory.join(CONFIG))?.context("it has no config.json")?;
        let generation_json = small(&directory.join(GENERATION))?;
        let config = Config::parse(&config_json, generation_json.as_deref())?;
        Ok(Model {
            name: name(directory),
            config,
            config_json,
            generation_json,
            tokenizer_json: small(&directory.join(TOKENIZER))?,
            tokenizer_config_json: small(&directory.join(TOKENIZER_CONFIG))?,
            chat_template: small(&directory.join(ModelFile::ChatTemplate.name()))?,
            tool_template: small(&directory.join(ModelFile::ToolTemplate.name()))?,
            files: weights_of(directory)?,
            progress: progress.clone(),
        })
    }

    fn of_gguf(path: &Path, progress: &Progress) -> anyhow::Result<Self> {
        let open = || File::open(path).map(BufReader::new);
        let bytes = fs::metadata(path)?.len();
        let header = Header::read(bytes, open()?).map_err(|flaw| anyhow::anyhow!("{flaw}"))?;
        let factors = rope_factors(path, &header)?;
        let ends = end_tokens(path, &header)?;
        let beside = Beside {
            rope_factors: factors.as_deref(),
            end_tokens: &ends,
        };
        let config_json = config_json(&header, beside)?;
        let config = Config::parse(&config_json, None)?;
        let text = text_files(&header, open)?;
        Ok(Model {
            name: name(path),
            config,
            config_json,
            generation_json: None,
            tokenizer_json: Some(text.tokenizer),
            tokenizer_config_json: Some(text.tokenizer_config),
            chat_template: None,
            tool_template: None,
            files: vec![path.to_owned()],
            progress: progress.clone(),
        })
    }

    /// How weights are kept: in the kind that is named, or as the file has them.
    pub fn packing(&self, kind: Option<Kind>) -> Packing {
        kind.map_or(Packing::AsStored, |kind| Packing::All(kind.packed()))
    }

    /// Its tokenizer and its template, if it has one.
    pub fn text(&self) -> anyhow::Result<Text> {
        let tokenizer = self.tokenizer_json.as_deref();
        let tokenizer = tokenizer.context("the model has no tokenizer.json")?;
        let template = TemplateFiles {
            config: self.tokenizer_config_json.as_deref(),
            chat: self.chat_template.as_deref(),
            tools: self.tool_template.as_deref(),
        };
        Ok(Text::of(tokenizer, template, self.config.vocabulary)?)
    }

    /// Whether its weights are packed already.
    pub fn is_packed(&self) -> bool {
        self.files.iter().any(|file| name(file) == PACKED_FILE)
    }

    /// Reads the weights, if the machine has the memory for them.
    pub fn load(&self, kernels: Arc<Kernels>, options: &Options) -> anyhow::Result<Decoder> {
        self.load_within(kernels, options, &Memory::available())
    }

    /// Reads the weights, for which `memory` is asked first.
    pub fn load_within(
        &self,
        kernels: Arc<Kernels>,
        options: &Options,
        memory: &Memory,
    ) -> anyhow::Result<Decoder> {
        let loaded = self.read(kernels, options, memory);
        self.progress.finish();
        loaded.with_context(|| format!("the model {}", self.name))
    }

    /// Reads the weights into a GPU's memory.
    #[cfg(feature = "cuda")]
    pub fn load_on_gpu(&self, index: usize, options: &Options) -> anyhow::Result<OnGpu> {
        let device = engine::cuda::device(index)?;
        if self.is_packed() {
            bail!(
                "the model {} is packed for the CPU; name what it was packed from",
                self.name
            );
        }
        let loaded =
            engine::cuda::CudaDecoder::load(&self.config, self.weights()?, &device, options);
        self.progress.finish();
        let decoder = loaded.with_context(|| format!("the model {}", self.name))?;
        let sources = decoder.sources().clone();
        Ok((Box::new(decoder), sources))
    }

    /// Reads the weights into a GPU's memory.
    #[cfg(not(feature = "cuda"))]
    pub fn load_on_gpu(&self, _: usize, _: &Options) -> anyhow::Result<OnGpu> {
        bail!(
            "this program was built without CUDA: `cargo build --release -p engine-cli --features cuda`"
        )
    }

    fn read(
        &self,
        kernels: Arc<Kernels>,
        options: &Options,
        memory: &Memory,
    ) -> anyhow::Result<Decoder> {
        if let [file] = &self.files[..]
            && self.is_packed()
        {
            let bytes = fs::metadata(file)?.len();
            let header = Reader::open(bytes, File::open(file)?)?;
            let needs = Decoder::needs_packed(&self.config, header.header(), options)?;
            memory.take(&needs)?;
            let content = self.progress.of(bytes, File::open(file)?);
            let loaded = Decoder::load_packed(&self.config, bytes, content, kernels, options);
            return Ok(loaded?.0);
        }
        let weights = self.weights()?;
        memory.take(&Decoder::needs(&self.config, &weights, options))?;
        Ok(Decoder::load(&self.config, weights, kernels, options)?)
    }

    fn weights(&self) -> anyhow::Result<Weights> {
        let mut parts = Vec::new();
        for file in &self.files {
            let bytes = fs::metadata(file)?.len();
            let content =
                File::open(file).with_context(|| format!("opening {}", file.display()))?;
            parts.push(Part {
                name: name(file),
                bytes,
                content: Box::new(self.progress.of(bytes, content)),
            });
        }
        Ok(Weights::open(parts)?)
    }
}

/// The last part of a path.
pub fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

/// Whether a directory's model makes vectors.
pub fn embeds(path: &Path) -> bool {
    let text = fs::read(path.join(CONFIG)).unwrap_or_default();
    let config: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    config["model_type"] == "bert"
}

/// A small file, if it is there.
fn small(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    let Ok(entry) = fs::metadata(path) else {
        return Ok(None);
    };
    if !entry.is_file() || entry.len() > SMALL_BYTES_MAX {
        bail!(
            "{} is no file of at most {SMALL_BYTES_MAX} bytes",
            path.display()
        );
    }
    Ok(Some(
        fs::read(path).with_context(|| format!("reading {}", path.display()))?,
    ))
}

/// The files of weights of a directory, in the order of their names.
fn weights_of(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let packed = directory.join(PACKED_FILE);
    if packed.is_file() {
        return Ok(vec![packed]);
    }
    let all = |extension: &str| -> anyhow::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|other| other == extension) {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    };
    let (gguf, safetensors) = (all("gguf")?, all("safetensors")?);
    match (gguf.len(), safetensors.is_empty()) {
        (0, true) => bail!("it has neither {PACKED_FILE} nor *.gguf nor *.safetensors"),
        (0, false) => Ok(safetensors),
        (1, true) => Ok(gguf),
        _ => bail!("it has more than one set of weights"),
    }
}

/// The divisors of rotary positions that a GGUF of Llama 3.1 and later has as a tensor.
fn rope_factors(path: &Path, header: &Header) -> anyhow::Result<Option<Vec<f32>>> {
    let Some(tensor) = header.tensor(ROPE_FACTORS) else {
        return Ok(None);
    };
    let bytes = tensor.data.end - tensor.data.start;
    if tensor.dtype != model::dtype::Dtype::F32 || bytes > 64 * 1024 {
        bail!("{ROPE_FACTORS} is no short list of F32");
    }
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(header.bytes() + tensor.data.start))?;
    let mut content = vec![0; bytes as usize];
    file.read_exact(&mut content)?;
    let numbers = content.chunks_exact(4);
    let numbers = numbers.map(|number| f32::from_le_bytes(number.try_into().expect("four bytes")));
    Ok(Some(numbers.collect()))
}

/// Tokens of the vocabulary that end a completion by what they are called.
fn end_tokens(path: &Path, header: &gguf::Header) -> anyhow::Result<Vec<u32>> {
    let Some(list) = header.array("tokenizer.ggml.tokens") else {
        return Ok(Vec::new());
    };
    let texts = list
        .texts(BufReader::new(File::open(path)?))
        .map_err(|flaw| anyhow::anyhow!("{flaw}"))?;
    let ends = texts
        .iter()
        .zip(0..)
        .filter(|(text, _)| END_TEXTS.contains(&text.as_str()));
    Ok(ends.map(|(_, id)| id).collect())
}
