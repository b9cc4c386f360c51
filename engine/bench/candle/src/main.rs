//! candle as a peer of `engine bench`: questions come as lines of JSON, answers go the same way. `../README.md` has the protocol.
//!
//! Threads are rayon's: whoever starts this sets `RAYON_NUM_THREADS`.

use std::fs::File;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use candle_core::quantized::gguf_file::Content;
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{bert, quantized_llama, quantized_qwen2};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Question {
    Load { model: String },
    Prefill { tokens: Vec<u32> },
    Decode { tokens: Vec<u32>, position: usize },
    Embed { texts: Vec<Vec<u32>> },
}

enum Model {
    None,
    Llama(quantized_llama::ModelWeights),
    Qwen2(quantized_qwen2::ModelWeights),
    Bert(bert::BertModel),
}

fn main() -> anyhow::Result<()> {
    let mut model = Model::None;
    for line in std::io::stdin().lock().lines() {
        let answer = match model.answer(serde_json::from_str(&line?)?) {
            Ok(answer) => answer,
            Err(error) => json!({"error": format!("{error:#}")}),
        };
        println!("{answer}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

impl Model {
    fn answer(&mut self, question: Question) -> anyhow::Result<Value> {
        match question {
            Question::Load { model } => {
                *self = Self::load(Path::new(&model))?;
                let feature = |name, has| if has { name } else { "" };
                let built = [feature("avx2", cfg!(target_feature = "avx2")), feature("avx512f", cfg!(target_feature = "avx512f"))];
                let threads = std::env::var("RAYON_NUM_THREADS").unwrap_or_default();
                Ok(json!({"peer": "candle", "version": "0.11.1", "instructions": built.join(" "), "threads": threads}))
            }
            Question::Prefill { tokens } => {
                let began = Instant::now();
                self.forward(&tokens, 0)?;
                Ok(json!({"ms": ms(began)}))
            }
            Question::Decode { tokens, position } => {
                let mut each = Vec::new();
                for (index, token) in tokens.iter().enumerate() {
                    let began = Instant::now();
                    self.forward(&[*token], position + index)?;
                    each.push(ms(began));
                }
                Ok(json!({"each_ms": each}))
            }
            Question::Embed { texts } => {
                let began = Instant::now();
                let mut sum = 0.0;
                for batch in batches(texts) {
                    sum += self.embed(&batch)?;
                }
                Ok(json!({"ms": ms(began), "sum": sum}))
            }
        }
    }

    fn load(path: &Path) -> anyhow::Result<Model> {
        let device = Device::Cpu;
        if path.is_dir() {
            let config = serde_json::from_slice(&std::fs::read(path.join("config.json"))?)?;
            let weights = std::fs::read(path.join("model.safetensors"))?;
            let weights = VarBuilder::from_buffered_safetensors(weights, DType::F32, &device)?;
            return Ok(Model::Bert(bert::BertModel::load(weights, &config)?));
        }
        let mut file = File::open(path)?;
        let content = Content::read(&mut file)?;
        let family = content.metadata.get("general.architecture").map(|value| value.to_string().cloned());
        Ok(match family.transpose()?.as_deref() {
            Some("qwen2") => Model::Qwen2(quantized_qwen2::ModelWeights::from_gguf(content, &mut file, &device)?),
            _ => Model::Llama(quantized_llama::ModelWeights::from_gguf(content, &mut file, &device)?),
        })
    }

    fn forward(&mut self, tokens: &[u32], position: usize) -> anyhow::Result<f32> {
        let input = Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?;
        let scores = match self {
            Model::Llama(model) => model.forward(&input, position)?,
            Model::Qwen2(model) => model.forward(&input, position)?,
            _ => anyhow::bail!("no decoder is loaded"),
        };
        Ok(scores.flatten_all()?.get(0)?.to_scalar()?)
    }

    /// The sum of the unit vectors of texts of one length, so that nothing is left out.
    fn embed(&mut self, texts: &[Vec<u32>]) -> anyhow::Result<f32> {
        let Model::Bert(model) = self else {
            anyhow::bail!("no embedder is loaded");
        };
        let ids = Tensor::new(texts.to_vec(), &Device::Cpu)?;
        let hidden = model.forward(&ids, &ids.zeros_like()?, None)?;
        let mean = hidden.mean(1)?;
        let unit = mean.broadcast_div(&mean.sqr()?.sum_keepdim(1)?.sqrt()?)?;
        Ok(unit.sum_all()?.to_scalar()?)
    }
}

/// Texts of one length together, 32 at most: no padding, which is candle's best case.
fn batches(mut texts: Vec<Vec<u32>>) -> Vec<Vec<Vec<u32>>> {
    texts.sort_by_key(Vec::len);
    let alike = texts.chunk_by(|a, b| a.len() == b.len());
    alike.flat_map(|alike| alike.chunks(32).map(<[_]>::to_vec)).collect()
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}
