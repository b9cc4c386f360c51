//! Tensors of a model, whatever files they lie in, and each accounted for.

use std::collections::BTreeMap;
use std::io::Cursor;

use model::decoder::Config;
use model::gguf::config::{Beside, ROPE_FACTORS, config_json};
use model::weights::{Part, Rows, Tensor};
use model::{FAMILIES, Family, ModelError, Plan, Weights};
use sha2::{Digest, Sha256};

use crate::gguf::file;

pub fn part(name: &str, bytes: &[u8]) -> Part {
    Part {
        name: name.into(),
        bytes: bytes.len() as u64,
        content: Box::new(Cursor::new(bytes.to_vec())),
    }
}

/// Safetensors with these tensors: name, type, shape, bytes.
pub fn safetensors(tensors: &[(&str, &str, &[usize], Vec<u8>)]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for (name, dtype, shape, bytes) in tensors {
        let offsets = [data.len(), data.len() + bytes.len()];
        data.extend(bytes);
        let entry = serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": offsets});
        header.insert((*name).into(), entry);
    }
    let header = serde_json::Value::from(header).to_string();
    [
        &(header.len() as u64).to_le_bytes()[..],
        header.as_bytes(),
        &data,
    ]
    .concat()
}

fn f32s(numbers: &[f32]) -> Vec<u8> {
    numbers
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect()
}

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

fn all(parts: Vec<Part>, plan: &Plan) -> Result<Tensors, ModelError> {
    let mut tensors = Tensors::new();
    let take = |tensor: &Tensor, rows: &mut Rows<'_>| {
        tensors.insert(tensor.name.clone(), (tensor.shape.clone(), rows.to_vec()?));
        Ok::<_, ModelError>(())
    };
    Weights::open(parts)?.read(plan, take)?;
    Ok(tensors)
}

/// The configuration of a GGUF file, with what the vectors have beside the metadata.
fn config(bytes: &[u8]) -> Result<Config, ModelError> {
    let weights = Weights::open(vec![part("a.gguf", bytes)])?;
    let header = weights.gguf().expect("is GGUF");
    let factors = header.tensor(ROPE_FACTORS).map(|_| {
        let mut plan = Plan::default();
        plan.want(ROPE_FACTORS, &[4]);
        for tensor in weights.tensors() {
            plan.ignore(&tensor.name);
        }
        all(vec![part("a.gguf", bytes)], &plan).expect("reads")[ROPE_FACTORS]
            .1
            .clone()
    });
    let beside = Beside {
        rope_factors: factors.as_deref(),
        ..Beside::default()
    };
    Config::parse(&config_json(header, beside)?, None)
}

/// What engine/tests/reference/gguf_models.py puts in a tensor.
fn expected(name: &str, numbers: usize) -> Vec<f32> {
    let sum: usize = name.bytes().map(usize::from).sum();
    (0..numbers)
        .map(|at| (sum % 512 + at % 1024) as f32 / 1024.0)
        .collect()
}

#[test]
fn the_tensors_of_every_family_in_gguf_are_those_of_hugging_face() {
    for family in FAMILIES.into_iter().filter_map(Family::architecture) {
        let bytes = file(&format!("{family}.gguf"));
        let config = config(&bytes).expect("is a model");
        assert_eq!(config.family.architecture(), Some(family));
        let plan = config.plan();
        let tensors = all(vec![part("a.gguf", &bytes)], &plan).expect("reads");
        assert_eq!(tensors.len(), plan.wanted().count(), "{family}");
        for (name, shape) in plan.wanted() {
            let (found, numbers) = &tensors[name];
            assert_eq!(found, shape, "{family} {name}");
            assert_eq!(*numbers, expected(name, numbers.len()), "{family} {name}");
        }
    }
}

#[test]
fn rows_come_once_in_the_order_of_the_file_and_files_are_hashed() {
    let numbers = |from: usize| f32s(&(from..from + 6).map(|n| n as f32).collect::<Vec<_>>());
    let one = safetensors(&[
        ("b", "F32", &[3, 2], numbers(0)),
        ("x", "I64", &[1], vec![0; 8]),
    ]);
    let two = safetensors(&[("a", "F32", &[2, 3], numbers(6))]);
    let mut plan = Plan::default();
    plan.want("a", &[2, 3]);
    plan.want("b", &[3, 2]);
    plan.ignore("x");
    assert_eq!(plan.parameters(), 12);
    let parts = || vec![part("1.safetensors", &one), part("2.safetensors", &two)];
    let mut seen = Vec::new();
    let read = Weights::open(parts())
        .expect("opens")
        .read(&plan, |tensor, rows| {
            // The first row alone: the rest is passed over.
            let row = rows.next()?.expect("there is one");
            let mut out = vec![0.0; tensor.columns()];
            row.to_f32(&mut out);
            seen.push((tensor.name.clone(), row.index, out));
            Ok::<_, ModelError>(())
        });
    let first = |name: &str, out: &[f32]| (name.to_owned(), 0, out.to_vec());
    assert_eq!(
        seen,
        [first("b", &[0.0, 1.0]), first("a", &[6.0, 7.0, 8.0])]
    );
    for (name, bytes) in [("1.safetensors", one), ("2.safetensors", two)] {
        let digest = read.as_ref().expect("reads")[name];
        let sha256: [u8; 32] = Sha256::digest(&bytes).into();
        assert_eq!((digest.bytes, digest.sha256), (bytes.len() as u64, sha256));
    }
}

#[test]
fn numbers_of_sixteen_bits_are_read() {
    let bytes = safetensors(&[
        ("a", "F16", &[3], vec![0, 0x3c, 0, 0xc0, 1, 0]),
        ("b", "BF16", &[2], vec![0x80, 0x3f, 0, 0xc0]),
    ]);
    let mut plan = Plan::default();
    plan.want("a", &[3]);
    plan.want("b", &[2]);
    let tensors = all(vec![part("model.safetensors", &bytes)], &plan).expect("reads");
    assert_eq!(tensors["a"].1, [1.0, -2.0, 5.960_464_5e-8]);
    assert_eq!(tensors["b"].1, [1.0, -2.0]);
}

#[test]
fn a_tensor_that_is_missing_extra_misshaped_mistyped_or_not_finite_is_named() {
    let mut plan = Plan::default();
    plan.want("a", &[2]);
    plan.ignore("also");
    let check = |tensors: &[(&str, &str, &[usize], Vec<u8>)], expected: &str| {
        let said = all(
            vec![part("model.safetensors", &safetensors(tensors))],
            &plan,
        );
        assert_eq!(
            said.map(|_| String::new())
                .unwrap_or_else(|error| error.to_string()),
            expected
        );
    };
    let good = || f32s(&[1.0, 2.0]);
    check(&[("a", "F32", &[2], good())], "");
    check(
        &[("a", "F32", &[2], good()), ("also", "I64", &[1], good())],
        "",
    );
    check(
        &[("also", "F32", &[2], good())],
        "the weights have no tensor a",
    );
    check(
        &[("a", "F32", &[2], good()), ("b", "F32", &[2], good())],
        "the weights have a tensor b, which is no part of the model that config.json describes",
    );
    check(
        &[("a", "F32", &[1, 2], good())],
        "tensor a has shape [1, 2], config.json calls for [2]",
    );
    check(
        &[("a", "I32", &[2], good())],
        "tensor a is stored as I32, which is not read here",
    );
    check(
        &[("a", "F32", &[2], f32s(&[1.0, f32::NAN]))],
        "tensor a holds a number that is not finite",
    );
    let file = safetensors(&[("a", "F32", &[2], good())]);
    let twice = all(
        vec![part("1.safetensors", &file), part("2.safetensors", &file)],
        &plan,
    );
    assert_eq!(twice, Err(ModelError::TensorTwice("a".into())));
    let mixed = all(
        vec![part("1.safetensors", &file), part("a.gguf", &file)],
        &plan,
    );
    assert!(matches!(mixed, Err(ModelError::Unsupported(_))));
}

#[test]
fn a_file_that_changes_while_it_is_read_is_refused() {
    let mut plan = Plan::default();
    plan.want("a", &[2]);
    let file = safetensors(&[("a", "F32", &[2], f32s(&[1.0, 2.0]))]);
    for change in [
        &|bytes: &mut Vec<u8>| bytes.push(0) as (),
        &|bytes: &mut Vec<u8>| bytes.truncate(bytes.len() - 1),
    ] as [&dyn Fn(&mut Vec<u8>); 2]
    {
        let mut changed = file.clone();
        change(&mut changed);
        let mut part = part("model.safetensors", &changed);
        part.bytes = file.len() as u64;
        let refused = all(vec![part], &plan);
        assert!(
            matches!(refused, Err(ModelError::Weights { .. })),
            "{refused:?}"
        );
    }
}
