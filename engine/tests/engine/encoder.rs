//! BERT on packed weights against `transformers`, against the modules of the reference, and its bits among other texts.

use std::io::Cursor;
use std::sync::Arc;

use burn::backend::Flex;
use burn::tensor::Tensor;
use engine::embedder::vector;
use engine::encoder::{Encoder, Text};
use engine::{EngineError, Packing, reference};
use kernels::{Kernels, Kind, Path};
use model::ModelError;
use model::bert::Config;
use model::pooling::{Pooled, Pooling};
use model::weights::{Part, Weights};

use crate::checkpoint::{BERT, RERANKER, Reference};
use crate::packed::{relative, worst};

fn load(reference: &Reference, kind: Kind, threads: usize) -> Encoder {
    let content = reference.safetensors();
    let part = Part {
        name: "model.safetensors".into(),
        bytes: content.len() as u64,
        content: Box::new(Cursor::new(content)),
    };
    let weights = Weights::open(vec![part]).expect("the header is whole");
    let config = Config::parse(reference.config.to_string().as_bytes()).expect("BERT's");
    let kernels = Kernels::new(Path::detect(), threads).expect("the path is this processor's");
    let packing = Packing::All(kind);
    Encoder::load(&config, weights, Arc::new(kernels), packing).expect("the checkpoint loads")
}

fn hidden(encoder: &mut Encoder, texts: &[Text<'_>]) -> Vec<Vec<f32>> {
    let mut all = Vec::new();
    let taken = encoder.forward(texts, &mut |index, rows| {
        assert_eq!(index, all.len());
        all.push(rows.to_vec());
    });
    taken.expect("the texts are fine");
    all
}

#[test]
fn rows_and_scores_are_those_of_transformers() {
    let reference = Reference::parse(BERT);
    let mut encoder = load(&reference, Kind::F32, 2);
    let width = encoder.config().hidden;
    let rows = hidden(&mut encoder, &[Text::one(&reference.prompt)]).remove(0);
    for (row, wanted) in reference.rows.iter().zip(reference.hidden()) {
        let error = worst(&rows[row * width..][..width], &wanted);
        assert!(error <= 1e-5, "row {row}: {error:e}");
    }
    let plain = Pooling {
        of: Pooled::Mean,
        normalised: false,
    };
    let mean = vector(plain, &rows, width).expect("finite");
    assert!(worst(&mean, &reference.mean()) <= 1e-5);

    let reference = Reference::parse(RERANKER);
    let mut encoder = load(&reference, Kind::F32, 2);
    let first = reference.segments.iter().filter(|segment| **segment == 0);
    let pair = Text {
        tokens: &reference.prompt,
        first: first.count(),
    };
    let scores = encoder.scores(&[pair, Text::one(&reference.prompt)]);
    let error = worst(&scores.expect("a cross-encoder"), &reference.pair_scores());
    assert!(error <= 1e-5, "{error:e}");
}

#[test]
fn an_embedder_scores_no_pair_and_texts_out_of_bounds_are_refused() {
    let reference = Reference::parse(BERT);
    let mut encoder = load(&reference, Kind::F32, 1);
    let no_head = encoder.scores(&[Text::one(&reference.prompt)]);
    let missing = ModelError::TensorMissing("classifier.weight".into());
    assert_eq!(no_head, Err(EngineError::Model(missing)));
    let long = vec![5; encoder.config().positions + 1];
    for tokens in [&[][..], &long, &[96], &[5, u32::MAX]] {
        let refused = encoder.forward(&[Text::one(tokens)], &mut |_, _| panic!("computed"));
        assert!(
            matches!(refused, Err(EngineError::Computation(_))),
            "{tokens:?}"
        );
    }
}

#[test]
fn every_kind_is_that_of_the_reference() {
    for (kind, most) in [
        (Kind::F32, 2e-6),
        (Kind::Bf16, 1e-2),
        (Kind::Q8, 3e-2),
        (Kind::Q4, 3e-2),
    ] {
        let reference = Reference::parse(BERT);
        let mut encoder = load(&reference, kind, 1);
        let config = encoder.config().clone();
        let mut numbers = |name: &str, _: &[usize]| {
            let missing = || ModelError::TensorMissing(name.into());
            encoder.packed().numbers(name).ok_or_else(missing)
        };
        let modules = reference::Bert::<Flex>::build(&config, &mut numbers, &Default::default());
        let modules = modules.expect("the packed encoder has every tensor");
        let text = Text::one(&reference.prompt);
        let wanted: Option<Tensor<Flex, 2>> = modules.hidden(text).pop();
        let wanted = wanted.expect("layers").into_data().into_vec::<f32>();
        let rows = hidden(&mut encoder, &[text]).remove(0);
        let error = relative(&rows, &wanted.expect("single precision"));
        println!("{kind:?}: {error:e}");
        assert!(error <= most, "{kind:?}: {error:e}");
    }
}

#[test]
fn bits_of_a_text_depend_on_the_text_alone() {
    let reference = Reference::parse(BERT);
    let texts: Vec<Vec<u32>> = (0..40u32)
        .map(|number| {
            (0..1 + number * 7 % 64)
                .map(|index| (number * 31 + index * 17) % 96)
                .collect()
        })
        .collect();
    let texts: Vec<Text<'_>> = texts.iter().map(|tokens| Text::one(tokens)).collect();
    for kind in Kind::ALL {
        let mut alone = Vec::new();
        for threads in [1, 2, 4] {
            let mut encoder = load(&reference, kind, threads);
            let together = hidden(&mut encoder, &texts);
            if alone.is_empty() {
                for text in &texts {
                    alone.extend(hidden(&mut encoder, &[*text]));
                }
            }
            let same = together.iter().flatten().zip(alone.iter().flatten());
            assert!(same.clone().count() > 0);
            assert!(
                same.into_iter().all(|(a, b)| a.to_bits() == b.to_bits()),
                "{kind:?}, {threads} threads"
            );
        }
    }
}

#[test]
fn a_vector_is_the_mean_the_first_or_the_last_row() {
    let rows = [3.0, 4.0, 0.0, 2.0, 3.0, 0.0];
    let check = |of, normalised, wanted: [f32; 2]| {
        let made = vector(Pooling { of, normalised }, &rows, 2);
        assert_eq!(made.expect("finite"), wanted);
    };
    check(Pooled::Mean, false, [2.0, 2.0]);
    check(Pooled::First, true, [0.6, 0.8]);
    check(Pooled::Last, true, [1.0, 0.0]);
    let zero = vector(Pooling::default(), &[0.0, 0.0], 2);
    assert!(matches!(zero, Err(EngineError::Computation(_))));
}
