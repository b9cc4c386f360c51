//! The packed path of every family against `transformers` and, layer by layer, against the plain modules of the reference.

use std::collections::BTreeSet;
use std::io::Cursor;
use std::sync::Arc;

use burn::backend::Flex;
use burn::tensor::{Tensor, TensorPrimitive};
use engine::decoder::{Decoder, Options, blocks_for};
use engine::reference::Plain;
use engine::{BlockTable, Forward, Packing, Row, reference};
use kernels::{Kernels, Kind, KvKind, Path};
use model::ModelError;
use model::decoder::Config;
use model::families::{FAMILIES, Family};
use model::weights::{Part, Weights};

use crate::checkpoint::{DECODERS, Reference};

pub fn config(reference: &Reference) -> Config {
    let text = reference.config.to_string();
    Config::parse(text.as_bytes(), None).expect("the configuration is one of a decoder")
}

pub fn weights(reference: &Reference) -> Weights {
    let content = reference.safetensors();
    let part = Part {
        name: "model.safetensors".into(),
        bytes: content.len() as u64,
        content: Box::new(Cursor::new(content)),
    };
    Weights::open(vec![part]).expect("the header is whole")
}

/// Room for `sequences` of 256 tokens, 512 rows at a time.
pub fn options(kind: Kind, sequences: usize) -> Options {
    Options {
        packing: Packing::All(kind),
        cache: KvKind::F32,
        blocks: blocks_for(sequences, 256),
        context_max: 256,
        rows_max: 512,
        scored_max: 512,
    }
}

pub fn load(reference: &Reference, options: &Options, threads: usize) -> Decoder {
    let kernels = Kernels::new(Path::detect(), threads).expect("the path is this processor's");
    load_on(reference, options, kernels)
}

pub fn load_on(reference: &Reference, options: &Options, kernels: Kernels) -> Decoder {
    let (config, weights) = (config(reference), weights(reference));
    let decoder = Decoder::load(&config, weights, Arc::new(kernels), options);
    decoder.expect("the checkpoint loads")
}

fn rows(prompt: &[u32]) -> Vec<Row> {
    let rows = (0..).zip(prompt).map(|(position, token)| Row {
        sequence: 0,
        token: *token,
        position,
        scored: true,
        keeps: false,
        kept: false,
    });
    rows.collect()
}

fn whole(decoder: &Decoder) -> BlockTable {
    BlockTable((0..decoder.shape().blocks as u32).collect())
}

pub fn worst(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let differences = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, |worst, difference| match difference.is_nan() {
        true => f32::INFINITY,
        false => worst.max(difference),
    })
}

/// The root of the mean square of the differences, against that of `b`.
pub fn relative(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let squares = |of: &mut dyn Iterator<Item = f32>| of.map(|x| f64::from(x).powi(2)).sum::<f64>();
    let differences = squares(&mut a.iter().zip(b).map(|(a, b)| a - b));
    (differences / squares(&mut b.iter().copied())).sqrt() as f32
}

/// What is read is what is tested: a family without a reference here does not count.
#[test]
fn every_family_has_a_reference() {
    let tested: BTreeSet<Family> = DECODERS
        .iter()
        .map(|(_, text)| config(&Reference::parse(text)).family)
        .collect();
    let decoders = FAMILIES.into_iter().filter(|family| family.is_decoder());
    assert_eq!(tested, decoders.collect());
}

/// Scores within 1e-4 in single precision, and the greedy text of 64 tokens.
#[test]
fn scores_and_greedy_texts_are_those_of_transformers() {
    for (name, text) in DECODERS {
        let reference = Reference::parse(text);
        let mut decoder = load(&reference, &options(Kind::F32, 1), 2);
        let table = [whole(&decoder)];
        let mut scores = Vec::new();
        let forward = decoder.forward(&rows(&reference.prompt), &table, &mut scores);
        forward.expect("the prompt is computed");
        let all: Vec<&[f32]> = scores.chunks_exact(decoder.shape().vocabulary).collect();
        let mut most = 0.0f32;
        for (row, wanted) in reference.rows.iter().zip(reference.scores()) {
            most = most.max(worst(all[*row], &wanted));
        }
        println!("{name}: largest difference of a score {most:e}");
        assert!(most <= 1e-4, "{name}: {most:e}");
        assert_eq!(greedy(&mut decoder, &reference), reference.greedy, "{name}");
    }
}

/// The decoder that forgets keys and values, which backends without packed weights run, in pieces and among others.
#[test]
fn plain_modules_give_the_scores_of_transformers_too() {
    for (name, text) in DECODERS {
        let reference = Reference::parse(text);
        let (config, options) = (config(&reference), options(Kind::F32, 2));
        let loaded =
            Plain::<Flex>::load(&config, weights(&reference), &Default::default(), &options);
        let mut decoder = loaded.expect("the checkpoint loads");
        let (begin, mut step) = (5, rows(&reference.prompt));
        let second = step.split_off(begin);
        let tables = [BlockTable((1..9).collect()), BlockTable(vec![0])];
        let mut scores = Vec::new();
        let mut other = rows(&[3, 1, 4]);
        other.iter_mut().for_each(|row| row.sequence = 1);
        for rows in [step, other, second] {
            decoder
                .forward(&rows, &tables, &mut scores)
                .expect("a pass");
        }
        let all: Vec<&[f32]> = scores.chunks_exact(config.vocabulary).collect();
        for (row, wanted) in reference.rows.iter().zip(reference.scores()) {
            if let Some(row) = row.checked_sub(begin) {
                let most = worst(all[row], &wanted);
                assert!(most <= 1e-4, "{name}: {most:e}");
            }
        }
        let foreign = Row {
            token: config.vocabulary as u32,
            ..rows(&[1])[0]
        };
        assert!(decoder.forward(&[foreign], &tables, &mut scores).is_err());
        let beyond = Row {
            position: 32,
            sequence: 1,
            ..rows(&[1])[0]
        };
        assert!(decoder.forward(&[beyond], &tables, &mut scores).is_err());
    }
}

fn greedy(decoder: &mut Decoder, reference: &Reference) -> Vec<u32> {
    let mut tokens = reference.prompt[..reference.greedy_prompt].to_vec();
    let table = [whole(decoder)];
    let (mut scores, mut done) = (Vec::new(), 0);
    while tokens.len() < reference.greedy_prompt + reference.greedy.len() {
        let mut step = rows(&tokens).split_off(done);
        done = tokens.len();
        step.iter_mut()
            .for_each(|row| row.scored = row.position as usize + 1 == done);
        decoder.forward(&step, &table, &mut scores).expect("a step");
        let best = (0..256u32).max_by(|a, b| scores[*a as usize].total_cmp(&scores[*b as usize]));
        tokens.extend(best);
    }
    tokens.split_off(reference.greedy_prompt)
}

/// What each layer gives and the scores, against modules with the very weights that were packed: in f32 but for the order of sums,
/// in bf16 and q8 within the error of their rounded activations, in q4 with 8 bits as in q8.
#[test]
fn every_layer_of_every_kind_is_that_of_the_reference() {
    for (kind, most) in [
        (Kind::F32, 2e-6),
        (Kind::Bf16, 1e-2),
        (Kind::Q8, 3e-2),
        (Kind::Q4, 3e-2),
    ] {
        for (name, text) in DECODERS {
            let reference = Reference::parse(text);
            let mut decoder = load(&reference, &options(kind, 1), 1);
            let mut numbers = |name: &str, _: &[usize]| {
                let missing = || ModelError::TensorMissing(name.into());
                decoder.packed().numbers(name).ok_or_else(missing)
            };
            let modules = reference::Decoder::<Flex>::build(
                &config(&reference),
                &mut numbers,
                &Default::default(),
            );
            let modules = modules.expect("the packed decoder has every tensor");
            let wanted = modules.hidden(&reference.prompt);
            let table = [whole(&decoder)];
            let (mut scores, mut index, mut largest) = (Vec::new(), 0, 0.0f32);
            let forward = decoder.forward_watched(
                &rows(&reference.prompt),
                &table,
                &mut scores,
                &mut |hidden| {
                    let hidden = TensorPrimitive::Float(hidden.clone());
                    let hidden = Tensor::<Flex, 2>::from_primitive(hidden);
                    let [rows, width] = wanted[index].dims();
                    let error = relative(
                        &values(hidden.slice([0..rows, 0..width])),
                        &values(wanted[index].clone()),
                    );
                    assert!(error <= most, "{name} {kind:?}: layer {index}: {error:e}");
                    largest = largest.max(error);
                    index += 1;
                },
            );
            forward.expect("the prompt is computed");
            assert_eq!(index, wanted.len());
            let error = relative(&scores, &values(modules.scores(wanted[index - 1].clone())));
            println!("{name} {kind:?}: layers {largest:e}, scores {error:e}");
            assert!(error <= most, "{name} {kind:?}: scores: {error:e}");
        }
    }
}

fn values(tensor: Tensor<Flex, 2>) -> Vec<f32> {
    tensor.into_data().into_vec().expect("single precision")
}
