//! The sampler against one that sorts, written from the textbook in double precision.

mod reference;

use kernels::Path;
use kernels::sampling::{Automaton, Constraints, Sampler, Sampling, SamplingError};
use reference::Reference;

const VOCABULARY: usize = 1003;
const DRAWS: u64 = 2000;

fn paths() -> impl Iterator<Item = Path> {
    Path::ALL.into_iter().filter(|path| path.is_here())
}

/// Scores as a model has them: a few tokens far ahead of many.
fn scores(seed: u64) -> Vec<f32> {
    let mut state = seed;
    let scores = (0..VOCABULARY).map(|_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let unit = (state >> 40) as f32 / (1u64 << 24) as f32;
        // The third power makes few large ones.
        18.0 * unit * unit * unit - 9.0
    });
    scores.collect()
}

fn warm() -> Sampling {
    Sampling {
        temperature: 1.0,
        ..Sampling::greedy(1)
    }
}

/// Draws many times for the same scores and compares how often each token comes with its probability.
fn check(sampling: Sampling, constraints: Constraints<'_>, reference: &Reference<'_>) {
    for path in paths() {
        let probabilities = reference.probabilities(&sampling);
        let mut counts = vec![0u32; VOCABULARY];
        for seed in 0..DRAWS {
            let sampling = Sampling { seed, ..sampling };
            let prompt = reference.prompt;
            let mut sampler =
                Sampler::new(path, VOCABULARY, sampling, constraints, prompt).unwrap();
            let token = sampler.choose(reference.scores).unwrap().token;
            counts[token as usize] += 1;
        }
        for (token, (count, p)) in counts.into_iter().zip(probabilities).enumerate() {
            let expected = p * DRAWS as f64;
            assert!(
                p > 0.0 || count == 0,
                "{path:?} {sampling:?}: {token} is not considered"
            );
            // Five standard deviations, and five for the Poisson tail of rare ones.
            let bound = 5.0 * (expected * (1.0 - p)).sqrt() + 5.0;
            let off = (f64::from(count) - expected).abs();
            assert!(
                off < bound,
                "{path:?} {sampling:?}: {token} {count} times, not {expected}"
            );
        }
    }
}

fn plain(scores: &[f32]) -> Reference<'_> {
    Reference {
        scores,
        prompt: &[],
        completion: &[],
        bias: &[],
        allowed: &|_| true,
    }
}

#[test]
fn each_token_comes_as_often_as_its_probability_says() {
    let scores = scores(1);
    let reference = plain(&scores);
    type Change = fn(&mut Sampling);
    let options: [Change; 12] = [
        |_| {},
        |s| s.temperature = 0.3,
        |s| s.temperature = 2.0,
        |s| s.top_k = 1,
        |s| s.top_k = 7,
        |s| s.top_k = u32::MAX,
        |s| s.top_p = 0.5,
        |s| s.top_p = 0.999,
        |s| s.min_p = 0.1,
        |s| (s.temperature, s.top_k, s.top_p) = (1.5, 20, 0.8),
        |s| (s.temperature, s.top_k, s.min_p) = (2.0, 50, 0.05),
        |s| (s.top_k, s.top_p, s.min_p) = (40, 0.95, 0.02),
    ];
    for change in options {
        let mut sampling = warm();
        change(&mut sampling);
        check(sampling, Constraints::default(), &reference);
    }
}

#[test]
fn among_equal_tokens_the_lowest_numbers_are_considered() {
    // Each score is there ten times.
    let scores: Vec<f32> = (0..VOCABULARY)
        .map(|token| -((token % 100) as f32) / 4.0)
        .collect();
    let reference = plain(&scores);
    for (top_k, top_p) in [
        (3, 1.0),
        (14, 1.0),
        (0, 0.1),
        (0, 0.6),
        (25, 0.7),
        (0, 1e-6),
    ] {
        let sampling = Sampling {
            top_k,
            top_p,
            ..warm()
        };
        check(sampling, Constraints::default(), &reference);
    }
}

#[test]
fn a_bias_and_a_grammar_change_the_probabilities() {
    let scores = scores(2);
    let bias = [(3, 12.5), (1002, 9.0), (500, -100.0), (5000, 1.0)];
    let reference = Reference {
        bias: &bias,
        ..plain(&scores)
    };
    let biased = Constraints {
        bias: &bias,
        ..Constraints::default()
    };
    check(warm(), biased, &reference);
    let classes: Vec<u16> = (0..VOCABULARY as u16).map(|token| token % 7).collect();
    let rows = vec![vec![0, 65535, 65535, 0, 65535, 65535, 65535]];
    let words = Automaton::words(&classes, &rows, 0);
    let grammar = Automaton::parse(Path::detect(), &words, VOCABULARY).unwrap();
    let reference = Reference {
        allowed: &|token| [0, 3].contains(&(token % 7)),
        ..reference
    };
    let both = Constraints {
        grammar: Some(&grammar),
        ..biased
    };
    check(warm(), both, &reference);
    let nucleus = Sampling {
        top_p: 0.7,
        ..warm()
    };
    check(nucleus, both, &reference);
}

#[test]
fn greedy_completions_equal_those_of_the_sorting_sampler_under_every_penalty() {
    let prompt: Vec<u32> = (0..50).collect();
    for (repetition, presence, frequency) in [
        (1.0, 0.0, 0.0),
        (1.3, 0.0, 0.0),
        (0.8, 0.0, 0.0),
        (1.0, 1.5, 0.0),
        (1.0, 0.0, 0.7),
        (1.0, -0.5, -0.25),
        (1.2, 0.4, 0.1),
    ] {
        let sampling = Sampling {
            repetition,
            presence,
            frequency,
            ..Sampling::greedy(100)
        };
        for path in paths() {
            let constraints = Constraints::default();
            let mut sampler =
                Sampler::new(path, VOCABULARY, sampling, constraints, &prompt).unwrap();
            let mut completion = Vec::new();
            for step in 0..60 {
                let scores = scores(100 + step / 8);
                let reference = Reference {
                    prompt: &prompt,
                    completion: &completion,
                    ..plain(&scores)
                };
                let expected = reference.best(&sampling);
                let token = sampler.choose(&scores).unwrap().token;
                assert_eq!(token, expected, "{path:?} {sampling:?} {step}");
                completion.push(token);
            }
        }
    }
}

#[test]
fn a_grammar_is_followed_from_state_to_state() {
    // Three classes in turn.
    let classes: Vec<u16> = (0..VOCABULARY as u16).map(|token| token % 3).collect();
    let never = 65535;
    let rows = vec![
        vec![1, never, never],
        vec![never, 2, never],
        vec![never, never, 0],
    ];
    let words = Automaton::words(&classes, &rows, 0);
    for path in paths() {
        let grammar = Automaton::parse(path, &words, VOCABULARY).unwrap();
        for temperature in [0.0, 1.0] {
            let sampling = Sampling {
                temperature,
                ..warm()
            };
            let constraints = Constraints {
                grammar: Some(&grammar),
                ..Constraints::default()
            };
            let mut sampler = Sampler::new(path, VOCABULARY, sampling, constraints, &[]).unwrap();
            for step in 0..30u32 {
                let token = sampler.choose(&scores(step.into())).unwrap().token;
                assert_eq!(token % 3, step % 3);
            }
        }
    }
}

#[test]
fn log_probabilities_are_the_models_own() {
    for (count, seed) in [(0u8, 5), (5, 6), (20, 7)] {
        let sampling = Sampling {
            logprobs: Some(count),
            temperature: 0.5,
            top_k: 3,
            ..warm()
        };
        let scores = scores(seed);
        let expected = plain(&scores).logprobs();
        let mut all = Vec::new();
        for path in paths() {
            let mut sampler =
                Sampler::new(path, VOCABULARY, sampling, Constraints::default(), &[]).unwrap();
            let choice = sampler.choose(&scores).unwrap();
            let logprobs = choice.logprobs.unwrap();
            assert_eq!(logprobs.top.len(), usize::from(count));
            for ((token, found), (expected_token, expected)) in logprobs.top.iter().zip(&expected) {
                assert_eq!(token, expected_token);
                assert!((f64::from(*found) - expected).abs() < 1e-5);
            }
            let (_, chosen) = expected
                .iter()
                .find(|(token, _)| *token == choice.token)
                .unwrap();
            assert!((f64::from(logprobs.chosen) - chosen).abs() < 1e-5);
            all.push((choice.token, logprobs));
        }
        assert!(all.iter().all(|one| *one == all[0]));
    }
    // More than there are tokens.
    let sampling = Sampling {
        logprobs: Some(20),
        ..warm()
    };
    let mut sampler =
        Sampler::new(Path::Portable, 3, sampling, Constraints::default(), &[]).unwrap();
    let logprobs = sampler.choose(&[1.0, 3.0, 2.0]).unwrap().logprobs.unwrap();
    assert_eq!(
        logprobs
            .top
            .iter()
            .map(|(token, _)| *token)
            .collect::<Vec<_>>(),
        [1, 2, 0]
    );
}

#[test]
fn every_path_chooses_the_same_tokens_and_a_seed_and_step_say_which() {
    let options = [
        warm(),
        Sampling {
            top_k: 40,
            top_p: 0.95,
            ..warm()
        },
        Sampling {
            min_p: 0.01,
            repetition: 1.1,
            frequency: 0.2,
            ..warm()
        },
    ];
    for sampling in options {
        let run = |path, seed| -> Vec<u32> {
            let sampling = Sampling { seed, ..sampling };
            let mut sampler =
                Sampler::new(path, VOCABULARY, sampling, Constraints::default(), &[1, 2]).unwrap();
            (0..40)
                .map(|step| sampler.choose(&scores(step)).unwrap().token)
                .collect()
        };
        let first = run(Path::Portable, 11);
        assert!(paths().all(|path| run(path, 11) == first));
        assert_ne!(run(Path::Portable, 12), first);
    }
}

#[test]
fn a_completion_ends_with_an_end_token_or_a_stop_sequence() {
    let mut scores = vec![0.0; VOCABULARY];
    let constraints = Constraints {
        ends: &[900],
        stops: &[vec![7, 8]],
        ..Constraints::default()
    };
    let mut sampler = Sampler::new(
        Path::detect(),
        VOCABULARY,
        Sampling::greedy(9),
        constraints,
        &[7],
    )
    .unwrap();
    let mut choose = |token: usize| {
        scores.fill(0.0);
        scores[token] = 1.0;
        let choice = sampler.choose(&scores).unwrap();
        assert_eq!(choice.token as usize, token);
        choice.ends
    };
    assert_eq!(
        [8, 7, 7, 8, 8, 900].map(&mut choose),
        [false, false, false, true, false, true]
    );
}

#[test]
fn what_cannot_be_sampled_from_is_an_error() {
    fn make(vocabulary: usize, constraints: Constraints<'_>) -> Result<(), SamplingError> {
        Sampler::new(Path::detect(), vocabulary, warm(), constraints, &[]).map(|_| ())
    }
    let none = Constraints::default();
    assert_eq!(make(0, none), Err(SamplingError::Vocabulary(0)));
    assert_eq!(
        make((1 << 20) + 1, none),
        Err(SamplingError::Vocabulary((1 << 20) + 1))
    );
    for value in [100.1, -101.0, f32::NAN, f32::INFINITY] {
        let pairs = [(1, value)];
        let bias = Constraints {
            bias: &pairs,
            ..none
        };
        assert_eq!(make(10, bias), Err(SamplingError::OutOfRange("bias")));
    }
    let words = Automaton::words(&[0; 9], &[vec![0]], 0);
    let grammar = Automaton::parse(Path::detect(), &words, 9).unwrap();
    let expected = SamplingError::GrammarVocabulary {
        vocabulary: 10,
        grammar: 9,
    };
    assert_eq!(
        make(
            10,
            Constraints {
                grammar: Some(&grammar),
                ..none
            }
        ),
        Err(expected)
    );
    for sampling in [Sampling::greedy(1), warm(), Sampling { top_k: 2, ..warm() }] {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut sampler = Sampler::new(Path::detect(), 2, sampling, none, &[]).unwrap();
            assert_eq!(sampler.choose(&[0.0, bad]), Err(SamplingError::NotFinite));
            let expected = SamplingError::Scores {
                expected: 2,
                found: 3,
            };
            assert_eq!(sampler.choose(&[0.0; 3]), Err(expected));
            assert!(
                sampler
                    .choose(&[f32::MAX, f32::MIN])
                    .is_ok_and(|choice| choice.token == 0)
            );
        }
    }
}

/// Also where they are all in one lane, where many are equal, and where the vocabulary ends within a vector.
#[test]
fn the_likeliest_tokens_are_those_of_a_sort_wherever_they_are() {
    let sampling = Sampling {
        logprobs: Some(20),
        ..Sampling::greedy(1)
    };
    let patterns: [fn(u32) -> f32; 6] = [
        |_| -1.0,
        |_| f32::MIN,
        |token| (token % 16 == 3) as u32 as f32 - (token / 160) as f32,
        |token| -(token as f32),
        |token| (token % 3) as f32 - 7.0,
        |token| (token.wrapping_mul(2_654_435_761) >> 20) as f32,
    ];
    for count in [1u32, 3, 16, 17, 127, 128, 129, 300, 1000] {
        for (number, pattern) in patterns.iter().enumerate() {
            let scores: Vec<f32> = (0..count).map(pattern).collect();
            let mut expected: Vec<u32> = (0..count).collect();
            expected.sort_by(|a, b| scores[*b as usize].total_cmp(&scores[*a as usize]));
            expected.truncate(20);
            for path in paths() {
                let none = Constraints::default();
                let mut sampler = Sampler::new(path, count as usize, sampling, none, &[]).unwrap();
                let top = sampler.choose(&scores).unwrap().logprobs.unwrap().top;
                let top: Vec<u32> = top.into_iter().map(|(token, _)| token).collect();
                assert_eq!(top, expected, "{path:?}, {count} tokens, pattern {number}");
            }
        }
    }
}
