//! What is looked at: a decoder of two layers that a scheduler runs, and a completion by each option of the sampler.

use std::io::Cursor;
use std::ops::ControlFlow;
use std::sync::Arc;

use engine::decoder::{Decoder, Options, blocks_for};
use engine::sampling::{Automaton, Constraints};
use engine::scheduler::{Event, Tokens, complete};
use engine::{Kernels, Kind, Packing};
use kernels::KvKind;
use model::decoder::Config;
use model::weights::{Part, Weights};
use serde_json::{Map, Value, json};

use super::eye::{Asked, NAIVE, SECRET, begin, end, mark, naive, sampling, tell};

#[test]
#[ignore = "the inner process of the other tests"]
fn inner() {
    let Some(asked) = Asked::of_environment() else {
        return;
    };
    tell(match NAIVE.contains(&&*asked.task) {
        true => naive(&asked.task, &asked.tokens(32, 2048), 2048),
        false => Subject::new(&asked).complete_by(&asked.task),
    });
}

struct Subject {
    decoder: Decoder,
    tokens: Tokens,
    prompt: Vec<u32>,
    /// Tokens of a completion.
    made: u32,
}

impl Subject {
    fn new(asked: &Asked) -> Self {
        let (vocabulary, inner, length, made) = match asked.listed {
            true => (128, 64, 4, 2),
            false => (2048, 128, 32, 8),
        };
        let config = json!({
            "model_type": "llama", "vocab_size": vocabulary, "hidden_size": 64, "intermediate_size": inner,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "eos_token_id": 2,
        });
        let config = Config::parse(config.to_string().as_bytes(), None).expect("a configuration");
        let content = checkpoint(&config);
        let part = Part {
            name: "model.safetensors".into(),
            bytes: content.len() as u64,
            content: Box::new(Cursor::new(content)),
        };
        let options = Options {
            packing: Packing::All(Kind::Q8),
            cache: KvKind::F32,
            blocks: blocks_for(1, 64),
            context_max: 64,
            rows_max: 32,
            scored_max: 1,
        };
        let kernels = Arc::new(Kernels::new(asked.path, 1).expect("it is here"));
        let weights = Weights::open(vec![part]).expect("the header is whole");
        let decoder = Decoder::load(&config, weights, kernels, &options);
        let mut decoder = decoder.expect("loads");
        decoder.packed().carry_among(vocabulary, &[1]);
        Subject {
            decoder,
            tokens: Tokens {
                path: asked.path,
                size: vocabulary,
                // In no vocabulary: that a completion goes on is public.
                ends: vec![u32::MAX - 1],
                forbidden: vec![1],
            },
            prompt: asked.tokens(length, vocabulary),
            made,
        }
    }

    /// The completions by these options, whose names are separated by commas. Of several, the first is of a longer prompt, whose
    /// rows are found by compaction.
    fn complete_by(&mut self, options: &str) -> Vec<u32> {
        let length = self.prompt.len();
        if options.contains(',') {
            self.prompt = self.prompt.repeat(8);
        }
        let mut found = Vec::new();
        for option in options.split(',') {
            found.extend(self.complete(option));
            self.prompt.truncate(length);
        }
        found
    }

    fn complete(&mut self, option: &str) -> Vec<u32> {
        let mut bias = match option {
            "bias" => vec![(self.prompt[0], 3.0), (self.prompt[1], -2.0)],
            _ => Vec::new(),
        };
        let mut stops = vec![vec![u32::MAX - 1; 3]];
        let classes: Vec<u16> = (0..self.tokens.size as u16)
            .map(|token| token % 3)
            .collect();
        let never = u16::MAX;
        let rows = vec![vec![1, 2, never], vec![never, 2, 0], vec![0, never, 1]];
        let mut words = Automaton::words(&classes, &rows, 0);
        mark(&mut words[1..], SECRET);
        mark(&mut bias, SECRET);
        mark(&mut stops[0], SECRET);
        let mut found = Vec::with_capacity(64);
        let prompt = self.prompt.clone();

        begin();
        let path = self.tokens.path;
        let grammar = (option == "grammar")
            .then(|| Automaton::parse(path, &words, self.tokens.size).expect("an automaton"));
        let constraints = Constraints {
            bias: &bias,
            ends: &[],
            stops: &stops,
            grammar: grammar.as_ref(),
        };
        let job = { &self.tokens }.job(prompt, sampling(option, self.made), constraints);
        let job = job.expect("the options are in range");
        let done = complete(&mut self.decoder, &self.tokens, job, &mut |event| {
            if let Event::Token { token, logprobs } = event {
                found.push(token);
                let top = { logprobs.iter() }.flat_map(|logprobs| &logprobs.top);
                top.for_each(|(token, _)| found.push(*token));
            }
            ControlFlow::Continue(())
        });
        done.expect("it fits");
        end();
        found
    }
}

/// Weights from a counter, in bf16: half of what is listed before the first signal is their digest.
fn checkpoint(config: &Config) -> Vec<u8> {
    let (plan, mut header, mut numbers) = (config.plan(), Map::new(), 0);
    for (name, shape) in plan.wanted() {
        let begin = 2 * numbers;
        numbers += shape.iter().product::<usize>();
        let tensor = json!({"dtype": "BF16", "shape": shape, "data_offsets": [begin, 2 * numbers]});
        header.insert(name.into(), tensor);
    }
    let header = Value::Object(header).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    let mut random = 12345u32;
    for _ in 0..numbers {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let number = (random >> 8) as f32 / (1 << 24) as f32 - 0.5;
        bytes.extend_from_slice(&number.to_le_bytes()[2..]);
    }
    bytes
}
