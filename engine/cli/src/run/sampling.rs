//! How tokens are chosen, as a person says it.

use engine::sampling::Sampling;

/// The options of the sampler, which is the one that a guest has.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "How tokens are chosen")]
pub struct Options {
    /// Tokens of an answer at most.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    tokens: u32,
    /// How far to stray from the likeliest token, 0 to 2. 0 always takes it; 1 draws tokens as often as the model thinks them
    /// likely; above 1 unlikely ones come more often.
    #[arg(long, default_value_t = 0.0)]
    temperature: f32,
    /// Draw from so many of the likeliest tokens; 0 draws from all.
    #[arg(long, default_value_t = 0)]
    top_k: u32,
    /// Draw from the likeliest tokens that together have this probability, above 0 and at most 1. 0.9 leaves out the unlikely tenth.
    #[arg(long, default_value_t = 1.0)]
    top_p: f32,
    /// Draw from the tokens that are at least this many times as likely as the likeliest, 0 to 1. Unlike --top-p it leaves more of
    /// them where the model is unsure.
    #[arg(long, default_value_t = 0.0)]
    min_p: f32,
    /// Make each token of the prompt and of the answer less likely to come again, above 1 and at most 2; below 1 likelier. 1.1 is
    /// usual.
    #[arg(long, default_value_t = 1.0)]
    repetition_penalty: f32,
    /// Take this from the score of each token that the answer has already, -2 to 2: new subjects.
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    presence_penalty: f32,
    /// The same for each time that the answer has it: fewer repeated words.
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    frequency_penalty: f32,
    /// Add VALUE to the score of a token before each choice: -100 forbids it, 100 forces it. May stand several times.
    #[arg(long, value_name = "TOKEN=VALUE", value_parser = bias)]
    bias: Vec<(u32, f32)>,
    /// The same seed gives the same answer, whatever the temperature.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// With --json: the log probability of each token, and the 0, 5 or 20 likeliest tokens in its place with theirs.
    #[arg(long, value_name = "COUNT", requires = "json")]
    logprobs: Option<u8>,
}

impl Options {
    /// As the sampler takes them.
    pub fn sampling(&self) -> Sampling {
        Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition: self.repetition_penalty,
            presence: self.presence_penalty,
            frequency: self.frequency_penalty,
            seed: self.seed,
            logprobs: self.logprobs,
            tokens_max: self.tokens,
        }
    }

    /// What is added to the scores of tokens.
    pub fn bias(&self) -> &[(u32, f32)] {
        &self.bias
    }
}

fn bias(text: &str) -> Result<(u32, f32), String> {
    let form = || format!("{text:?} is not TOKEN=VALUE, as in 198=-100");
    let (token, value) = text.split_once('=').ok_or_else(form)?;
    let token = token.parse().map_err(|_| form())?;
    let value: f32 = value.parse().map_err(|_| form())?;
    match value.is_finite() {
        true => Ok((token, value)),
        false => Err(form()),
    }
}
