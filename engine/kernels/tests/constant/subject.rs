//! What is looked at: a model of one tied table, and a completion by each option of the sampler, in a process of its own.

use super::eye::{Asked, NAIVE, SECRET, begin, end, mark, naive, sampling, tell};
use kernels::oblivious::{Choices, rows};
use kernels::sampling::{Automaton, Constraints, Sampler};
use kernels::{Kernels, Kind, Packed, Path};

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

pub struct Subject {
    kernels: Kernels,
    path: Path,
    table: Packed,
    vocabulary: usize,
    pub prompt: Vec<u32>,
    /// Tokens of a completion.
    tokens: usize,
}

const WIDTH: usize = 64;

impl Subject {
    fn new(asked: &Asked) -> Self {
        Self::of(
            asked,
            match asked.listed {
                true => (512, 4, 2),
                false => (2048, 32, 8),
            },
        )
    }

    /// With so many tokens of the vocabulary, of the prompt and of a completion.
    pub fn of(asked: &Asked, (vocabulary, length, tokens): (usize, u32, usize)) -> Self {
        let mut table = Packed::zeroed(Kind::Q8, vocabulary, WIDTH).unwrap();
        let mut random = 12345u32;
        for row in 0..vocabulary {
            let weights: [f32; WIDTH] = std::array::from_fn(|_| {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (random >> 8) as f32 / (1 << 24) as f32 - 0.5
            });
            table.set_row(row, &weights).unwrap();
        }
        Subject {
            kernels: Kernels::new(asked.path, 1).unwrap(),
            path: asked.path,
            table,
            vocabulary,
            prompt: asked.tokens(length, vocabulary),
            tokens,
        }
    }

    /// The completions by these options, whose names are separated by commas. Of several, the first is of a longer prompt, whose
    /// rows are found by compaction.
    pub fn complete_by(&mut self, options: &str) -> Vec<u32> {
        let short = self.prompt.clone();
        if options.contains(',') {
            self.prompt = self.prompt.repeat(8);
        }
        let mut found = Vec::new();
        for option in options.split(',') {
            found.extend(self.complete(option));
            self.prompt.truncate(short.len());
        }
        found
    }

    /// A prompt and the tokens that follow it.
    fn complete(&mut self, option: &str) -> Vec<u32> {
        let sampling = sampling(option, 9);
        let mut bias = match option {
            "bias" => vec![(self.prompt[0], 3.0), (self.prompt[1], -2.0)],
            _ => Vec::new(),
        };
        // What is in no vocabulary: that a completion goes on is public.
        let (mut ends, mut stops) = (vec![u32::MAX - 1], vec![vec![u32::MAX - 1; 3]]);
        let classes: Vec<u16> = (0..self.vocabulary as u16).map(|token| token % 3).collect();
        let never = u16::MAX;
        let rows = vec![vec![1, 2, never], vec![never, 2, 0], vec![0, never, 1]];
        let mut words = Automaton::words(&classes, &rows, 0);
        mark(&mut words[1..], SECRET);
        mark(&mut bias, SECRET);
        mark(&mut ends, SECRET);
        mark(&mut stops[0], SECRET);
        let mut found = Vec::with_capacity(64);

        begin();
        let grammar = (option == "grammar")
            .then(|| Automaton::parse(self.path, &words, self.vocabulary).unwrap());
        let constraints = Constraints {
            bias: &bias,
            ends: &ends,
            stops: &stops,
            grammar: grammar.as_ref(),
        };
        let sampler = Sampler::new(
            self.path,
            self.vocabulary,
            sampling,
            constraints,
            &self.prompt,
        );
        let mut sampler = sampler.unwrap();
        let mut scores = self.scores(&self.prompt);
        for _ in 0..self.tokens {
            let choice = sampler.choose(&scores).unwrap();
            found.push(choice.token);
            let logprobs = choice.logprobs.iter().flat_map(|logprobs| &logprobs.top);
            logprobs.for_each(|(token, _)| found.push(*token));
            scores = self.scores(&[choice.token]);
        }
        end();
        found
    }

    /// The scores behind the last of `tokens`.
    fn scores(&self, tokens: &[u32]) -> Vec<f32> {
        let mut x = vec![0.0; tokens.len() * WIDTH];
        self.kernels.embed(&self.table, tokens, &mut x).unwrap();
        // All of the prompt decides.
        for place in 1..tokens.len() {
            for column in 0..WIDTH {
                x[place * WIDTH + column] += 0.9 * x[(place - 1) * WIDTH + column];
            }
        }
        let mut scores = vec![0.0; self.vocabulary];
        let last = &x[(tokens.len() - 1) * WIDTH..];
        // The scores of `linear`, and the row of the best beside them.
        let choices = Choices::new(self.vocabulary, self.vocabulary, &[1]);
        let mut row = [0.0; WIDTH];
        let best =
            (self.kernels).linear_carrying(&self.table, last, &mut scores, &choices, &mut row);
        best.unwrap();
        scores
    }
}

#[test]
fn a_row_of_floats_is_what_the_table_has() {
    // The plain table's pass is small enough to be looked at by the disassembly alone; that it is there is checked here.
    let mut out = [0.0; 2];
    rows::row(Path::detect(), &[1.0, 2.0, 3.0, 4.0], 1, &mut out);
    assert_eq!(out, [3.0, 4.0]);
}
