//! SmolLM2-135M-Instruct against llama.cpp, `transformers` and `tokenizers`: `../reference/smollm2.py` wrote what they say. Where the
//! model is absent these tests say so and pass, unless `CI=true`.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use engine::decoder::{Decoder, Options, blocks_for};
use engine::{BlockTable, Forward, Packing, Row};
use kernels::{Kernels, Kind, KvKind, Path as Instructions};
use model::decoder::Config;
use model::weights::{Part, Weights};
use serde::Deserialize;
use tokenizers::Tokenizer;

use crate::packed::worst;
use crate::smollm2::directory;

#[derive(Deserialize)]
struct Reference {
    texts: Vec<Text>,
    group: usize,
    strings: Vec<String>,
    answers: Vec<Answer>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    tokens: Vec<u32>,
}

/// What follows a prompt, by llama.cpp and by `transformers` in f32.
#[derive(Deserialize)]
struct Answer {
    prompt: Vec<u32>,
    llama_cpp: Vec<u32>,
    /// Empty where it was not computed.
    exact: Vec<u32>,
    /// Tokens with the largest scores of `transformers` behind the prompt, those scores, and llama.cpp's.
    top: Vec<usize>,
    scores: Vec<f32>,
    llama_cpp_scores: Vec<f32>,
}

fn reference() -> Reference {
    serde_json::from_str(include_str!("../reference/smollm2.json"))
        .expect("the committed reference is well formed")
}

/// The tokenizer that was made of the GGUF's metadata. A text cannot spell a special token.
fn tokenizer(directory: &Path) -> Tokenizer {
    let mut tokenizer =
        Tokenizer::from_file(directory.join("tokenizer.json")).expect("it is a tokenizer");
    tokenizer.set_encode_special_tokens(true);
    tokenizer
}

fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    tokenizer
        .encode(text, false)
        .expect("every text has tokens")
        .get_ids()
        .to_vec()
}

#[test]
fn a_hundred_texts_have_the_tokens_of_llama_cpp() {
    let Some(directory) = directory() else { return };
    let tokenizer = tokenizer(&directory);
    let texts = reference().texts;
    assert_eq!(texts.len(), 100);
    for Text { text, tokens } in texts {
        assert_eq!(ids(&tokenizer, &text), tokens, "{text:?}");
    }
}

#[test]
fn ten_thousand_strings_have_the_tokens_of_hugging_face() {
    let Some(directory) = directory() else { return };
    let tokenizer = tokenizer(&directory);
    let Reference { group, strings, .. } = reference();
    let mut random = Random(2026);
    assert_eq!(group * strings.len(), 10_000);
    for (index, expected) in strings.iter().enumerate() {
        let mut digest = 0xcbf2_9ce4_8422_2325;
        for _ in 0..group {
            let ids = ids(&tokenizer, &random.string());
            let numbers = std::iter::once(ids.len() as u32).chain(ids);
            for byte in numbers.flat_map(u32::to_le_bytes) {
                digest = (digest ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
            }
        }
        assert_eq!(
            format!("{digest:016x}"),
            *expected,
            "strings {} to {}",
            index * group,
            (index + 1) * group - 1
        );
    }
}

struct Random(u64);

/// As in `smollm2.py`.
const RANGES: [(u32, u32); 26] = [
    (0x20, 0x7e),
    (0x61, 0x7a),
    (0x30, 0x39),
    (0x09, 0x0d),
    (0x20, 0x20),
    (0xa0, 0xff),
    (0x100, 0x17f),
    (0x300, 0x36f),
    (0x370, 0x3ff),
    (0x400, 0x4ff),
    (0x5d0, 0x5ea),
    (0x620, 0x64a),
    (0x905, 0x939),
    (0xe01, 0xe3a),
    (0xac00, 0xd7a3),
    (0x3041, 0x3096),
    (0x30a1, 0x30fa),
    (0x4e00, 0x9fff),
    (0x1f300, 0x1f64f),
    (0x1f3fb, 0x1f3ff),
    (0x200b, 0x200d),
    (0xfe00, 0xfe0f),
    (0x2000, 0x206f),
    (0xe000, 0xe010),
    (0x20000, 0x2000f),
    (0x00, 0x1f),
];

impl Random {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % u64::from(bound)) as u32
    }

    /// Pieces of one script each, some of bytes that are no UTF-8, which become U+FFFD.
    fn string(&mut self) -> String {
        let mut data = Vec::new();
        for _ in 0..1 + self.below(8) {
            let count = 1 + self.below(12);
            if self.below(16) == 0 {
                data.extend((0..count).map(|_| 0x80 + self.below(0x80) as u8));
                continue;
            }
            let (first, last) = RANGES[self.below(RANGES.len() as u32) as usize];
            let piece = (0..count).map(|_| {
                char::from_u32(first + self.below(last - first + 1)).expect("a character")
            });
            data.extend(piece.collect::<String>().bytes());
        }
        String::from_utf8_lossy(&data).into_owned()
    }
}

/// A decoder with a conversation.
struct Model {
    decoder: Decoder,
    table: [BlockTable; 1],
}

const CONTEXT: usize = 256;

impl Model {
    fn load(directory: &Path, packing: Packing) -> Self {
        let config = std::fs::read(directory.join("config.json")).expect("it was made of the GGUF");
        let config = Config::parse(&config, None).expect("is a decoder's");
        let path = directory.join("model.gguf");
        let part = Part {
            name: "model.gguf".into(),
            bytes: path.metadata().expect("is there").len(),
            content: Box::new(File::open(path).expect("can be read")),
        };
        let kernels =
            Kernels::new(Instructions::detect(), 2).expect("the path is this processor's");
        let options = Options {
            packing,
            cache: KvKind::F32,
            blocks: blocks_for(1, CONTEXT),
            context_max: CONTEXT,
            rows_max: CONTEXT,
            scored_max: 1,
        };
        let weights = Weights::open(vec![part]).expect("the header is whole");
        Model {
            decoder: Decoder::load(&config, weights, Arc::new(kernels), &options)
                .expect("the model loads"),
            table: [BlockTable((0..blocks_for(1, CONTEXT) as u32).collect())],
        }
    }

    /// Scores of what follows the last of `tokens`, which stand from `position` on.
    fn scores(&mut self, tokens: &[u32], position: usize) -> Vec<f32> {
        let rows = tokens.iter().enumerate().map(|(index, token)| Row {
            sequence: 0,
            token: *token,
            position: (position + index) as u32,
            scored: index + 1 == tokens.len(),
            keeps: false,
            kept: false,
        });
        let mut scores = Vec::new();
        let rows: Vec<Row> = rows.collect();
        self.decoder
            .forward(&rows, &self.table, &mut scores)
            .expect("it fits");
        scores
    }

    /// The best continuation, and the scores that its last token was chosen from, up to where it leaves `other` or is as long.
    fn follow(&mut self, prompt: &[u32], other: &[u32]) -> (Vec<u32>, Vec<f32>) {
        let mut scores = self.scores(prompt, 0);
        let mut said = Vec::new();
        loop {
            let best =
                (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b]).then(b.cmp(a)));
            said.push(best.expect("there are scores") as u32);
            let at = said.len() - 1;
            if said[at] != other[at] || said.len() == other.len() {
                return (said, scores);
            }
            scores = self.scores(&said[at..], prompt.len() + at);
        }
    }
}

/// How many of the questions are asked; all with `CHRYSALIS_LONG=1`.
fn asked(answers: Vec<Answer>, few: usize) -> Vec<Answer> {
    let count = if std::env::var_os("CHRYSALIS_LONG").is_some() {
        answers.len()
    } else {
        few
    };
    answers.into_iter().take(count).collect()
}

#[test]
fn in_f32_the_greedy_text_is_that_of_transformers() {
    let Some(directory) = directory() else { return };
    let mut model = Model::load(&directory, Packing::All(Kind::F32));
    let mut answers = reference().answers;
    answers.retain(|answer| !answer.exact.is_empty());
    for answer in answers {
        let scores = model.scores(&answer.prompt, 0);
        let top: Vec<f32> = answer.top.iter().map(|token| scores[*token]).collect();
        let worst = worst(&top, &answer.scores);
        println!("largest difference of the best scores {worst:e}");
        assert!(worst <= 1e-3, "{worst:e}");
        assert_eq!(model.follow(&answer.prompt, &answer.exact).0, answer.exact);
    }
}

/// Where the texts part, the scores of the two candidates are nearer to each other than what the kernels' 8-bit activations, ours
/// and llama.cpp's, change in them; and ours change no more than llama.cpp's.
#[test]
fn the_greedy_text_is_that_of_llama_cpp_up_to_the_error_of_the_kernels() {
    let Some(directory) = directory() else { return };
    let mut packed = Model::load(&directory, Packing::AsStored);
    let mut exact = Model::load(&directory, Packing::All(Kind::F32));
    let (mut own, mut theirs) = (0.0f32, 0.0f32);
    for answer in asked(reference().answers, 5) {
        let row = packed.scores(&answer.prompt, 0);
        let top: Vec<f32> = answer.top.iter().map(|token| row[*token]).collect();
        let error = worst(&top, &answer.scores);
        let other_error = worst(&answer.llama_cpp_scores, &answer.scores);
        own = own.max(error);
        theirs = theirs.max(other_error);
        let (said, scores) = packed.follow(&answer.prompt, &answer.llama_cpp);
        let last = said.len() - 1;
        let candidates = [said[last], answer.llama_cpp[last]].map(|token| token as usize);
        if candidates[0] == candidates[1] {
            println!(
                "equal for {} tokens; errors {error:.3} and llama.cpp's {other_error:.3}",
                said.len()
            );
            continue;
        }
        let before = [&answer.prompt[..], &said[..last]].concat();
        let true_scores = exact.scores(&before, 0);
        let gap = (true_scores[candidates[0]] - true_scores[candidates[1]]).abs();
        let here = worst(&scores, &true_scores);
        println!(
            "part at token {last}: gap {gap:.3}; errors {here:.3} and llama.cpp's {other_error:.3}"
        );
        assert!(
            gap <= here + other_error,
            "token {last}: {gap} is more than {here} and {other_error}"
        );
    }
    println!("largest errors of the best scores: {own:.3}, llama.cpp's {theirs:.3}");
    assert!(
        own <= theirs * 1.25,
        "{own} is more than llama.cpp's {theirs}"
    );
}
