//! GGUF files: those that PyPI's `gguf` wrote are read as they were meant, and whatever is wrong with one is said.

use std::path::{Path, PathBuf};

use model::gguf::{Element, Header, Value};
use model::{Dtype, Judge};

/// Where the reference vectors lie.
pub fn reference(name: &str) -> PathBuf {
    let engine = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a crate of the engine");
    engine.join("tests/reference").join(name)
}

pub fn file(name: &str) -> Vec<u8> {
    std::fs::read(reference("gguf").join(name)).expect("reads")
}

fn header(bytes: &[u8]) -> Result<Header, String> {
    Header::read(bytes.len() as u64, bytes).map_err(|flaw| flaw.to_string())
}

#[test]
fn the_numbers_of_blocks_are_those_of_ggml() {
    let vectors = std::fs::read(reference("gguf_blocks.json")).expect("reads");
    let vectors: serde_json::Value = serde_json::from_slice(&vectors).expect("is JSON");
    let bytes = |vector: &serde_json::Value, key: &str| {
        let text = vector[key].as_str().expect("a text");
        let pairs = text.as_bytes().chunks(2);
        let pair =
            |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("hexadecimal"), 16);
        pairs
            .map(|p| pair(p).expect("hexadecimal"))
            .collect::<Vec<u8>>()
    };
    let mut seen = Vec::new();
    for vector in vectors.as_array().expect("a list") {
        let dtype = Dtype::ALL
            .into_iter()
            .find(|one| vector["type"] == one.name());
        let dtype = dtype.expect("a type that is read here");
        let blocks = bytes(vector, "blocks");
        let expected = bytes(vector, "numbers");
        let mut found = vec![f32::NAN; expected.len() / 4];
        assert_eq!(dtype.row_bytes(found.len()), Some(blocks.len()), "{dtype}");
        assert!(dtype.is_finite(&blocks), "{dtype}");
        dtype.dequantise(&blocks, &mut found);
        let found: Vec<u8> = found
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        assert_eq!(found, expected, "{dtype}");
        seen.push(dtype);
    }
    assert_eq!(seen.len(), Dtype::ALL.len());
    seen.dedup();
    assert_eq!(seen.len(), Dtype::ALL.len());
}

#[test]
fn a_scale_that_is_not_finite_is_found_in_every_type() {
    for (dtype, scales) in [
        (Dtype::F16, vec![0]),
        (Dtype::Q8_0, vec![0]),
        (Dtype::Q4_0, vec![0]),
        (Dtype::Q4_1, vec![0, 2]),
        (Dtype::Q4K, vec![0, 2]),
        (Dtype::Q6K, vec![208]),
    ] {
        for at in scales {
            for infinite in [0x7c00u16, 0xfc00, 0x7e01, 0x7fff] {
                let mut blocks = vec![0; 2 * dtype.block_bytes()];
                assert!(dtype.is_finite(&blocks));
                let at = dtype.block_bytes() + at;
                blocks[at..at + 2].copy_from_slice(&infinite.to_le_bytes());
                assert!(!dtype.is_finite(&blocks), "{dtype} at {at}");
            }
        }
    }
    for bad in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
        assert!(!Dtype::F32.is_finite(&bad.to_le_bytes()));
        assert!(!Dtype::Bf16.is_finite(&bad.to_le_bytes()[2..]));
    }
    assert!(Dtype::F32.is_finite(&f32::MAX.to_le_bytes()));
    assert!(Dtype::Bf16.is_finite(&f32::MAX.to_le_bytes()[2..]));
}

#[test]
fn metadata_and_tensors_of_a_file_are_read() {
    let bytes = file("llama.gguf");
    let header = header(&bytes).expect("whole");
    assert_eq!(header.architecture(), Some("llama"));
    assert_eq!(header.number("llama.block_count"), Some(2));
    assert_eq!(header.float("llama.rope.freq_base"), Some(500_000.0));
    assert_eq!(
        header.value("llama.attention.head_count"),
        Some(&Value::Unsigned(2))
    );
    assert_eq!(header.text("llama.block_count"), None);
    let tokens = header.array("tokenizer.ggml.tokens").expect("is there");
    assert_eq!((tokens.element, tokens.count), (Element::Text, 24));
    let tokens = tokens.texts(bytes.as_slice()).expect("reads");
    assert_eq!((tokens.len(), tokens[23].as_str()), (24, "<23>"));
    let table = header.tensor("token_embd.weight").expect("is there");
    assert_eq!(
        (table.dtype, table.shape.as_slice()),
        (Dtype::F32, &[24, 16][..])
    );
    let gate = header.tensor("blk.1.ffn_gate.weight").expect("is there");
    assert_eq!(
        (gate.dtype, gate.shape.as_slice()),
        (Dtype::F16, &[24, 16][..])
    );
    let end = header.tensors().last().expect("there are some").data.end;
    let padded = (header.bytes() + end).next_multiple_of(32);
    assert_eq!(padded, bytes.len() as u64);
}

/// A file of these values (each with its type's number before it) and tensors (name, extents, type, offset), and so many bytes behind.
fn made(values: &[(&str, Vec<u8>)], tensors: &[(&str, &[u64], u32, u64)], data: usize) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let mut out = b"GGUF\x03\0\0\0".to_vec();
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((values.len() as u64).to_le_bytes());
    for (key, value) in values {
        out.extend(text(key));
        out.extend(value);
    }
    for (name, extents, dtype, offset) in tensors {
        out.extend(text(name));
        out.extend((extents.len() as u32).to_le_bytes());
        out.extend(extents.iter().flat_map(|extent| extent.to_le_bytes()));
        out.extend(dtype.to_le_bytes());
        out.extend(offset.to_le_bytes());
    }
    out.resize(out.len().next_multiple_of(32) + data, 0);
    out
}

fn value(kind: u32, bytes: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], bytes].concat()
}

#[test]
fn tensors_cover_the_file_without_gap_or_overlap() {
    let check = |tensors: &[(&str, &[u64], u32, u64)], data: usize, expected: &str| {
        let read = header(&made(&[], tensors, data));
        match expected {
            "" => assert!(read.is_ok(), "{tensors:?}: {read:?}"),
            _ => {
                let said = read.expect_err(expected);
                assert!(said.contains(expected), "{said}; expected {expected}");
            }
        }
    };
    check(&[("a", &[8], 0, 0), ("b", &[32, 2], 8, 32)], 100, "");
    check(&[("a", &[8], 0, 0), ("b", &[32, 2], 8, 32)], 128, "");
    check(&[("b", &[32, 2], 8, 32), ("a", &[8], 0, 0)], 100, "");
    check(&[("a", &[4], 0, 0), ("b", &[4], 0, 32)], 48, "");
    check(&[], 0, "");
    for (tensors, data, expected) in [
        (
            &[("a", &[8][..], 0, 0), ("b", &[8], 0, 0)][..],
            64,
            "shares bytes",
        ),
        (
            &[("a", &[16], 0, 0), ("b", &[8], 0, 32)],
            64,
            "shares bytes",
        ),
        (
            &[("a", &[8], 0, 0), ("b", &[8], 0, 64)],
            96,
            "does not follow",
        ),
        (&[("a", &[8], 0, 32)], 64, "does not follow"),
        (
            &[("a", &[8], 0, 0), ("b", &[8], 0, 33)],
            96,
            "does not follow",
        ),
        (&[("a", &[8], 0, 0)], 31, "cut short"),
        (&[("a", &[8], 0, 0)], 33, "there are 33"),
        (&[("a", &[8], 0, 0)], 64, "there are 64"),
        (&[("a", &[8], 0, 0), ("a", &[8], 0, 32)], 64, "stands twice"),
        (&[("a", &[8], 0, u64::MAX - 3)], 64, "does not follow"),
        (&[("a", &[1 << 60, 8], 0, 0)], 64, "too many"),
        (&[("a", &[1 << 40, 1 << 40], 0, 0)], 64, "too many"),
        (&[("a", &[0], 0, 0)], 64, "out of bounds"),
        (&[("a", &[], 0, 0)], 64, "0 dimensions"),
        (&[("a", &[1, 1, 1, 1, 1], 0, 0)], 64, "5 dimensions"),
        (&[("a", &[33], 8, 0)], 64, "no whole blocks of Q8_0"),
        (&[("a", &[32], 12, 0)], 64, "no whole blocks of Q4_K"),
        (
            &[("deep", &[32], 6, 0)],
            64,
            "`deep` is stored as Q5_0; F32, F16",
        ),
        (&[("a", &[32], 99, 0)], 64, "stored as type 99"),
    ] {
        check(tensors, data, expected);
    }
}

#[test]
fn values_are_bounded_and_stand_once() {
    let alignment = |alignment: u32| ("general.alignment", value(4, &alignment.to_le_bytes()));
    let check = |values: &[(&str, Vec<u8>)], expected: &str| {
        let said = header(&made(values, &[("a", &[8], 0, 0)], 32)).expect_err(expected);
        assert!(said.contains(expected), "{said}; expected {expected}");
    };
    assert!(header(&made(&[alignment(32)], &[("a", &[8], 0, 0)], 32)).is_ok());
    for bad in [0, 1, 7, 33, 1 << 17] {
        check(&[alignment(bad)], "no power of two");
    }
    check(
        &[("k", value(0, &[1])), ("k", value(0, &[1]))],
        "`k` stands twice",
    );
    check(&[("k", value(7, &[2]))], "a flag is 2");
    check(&[("k", value(13, &[]))], "`k` has the type 13");
    // A list of lists, a list that is longer than the file, one whose bytes do not fit a number.
    let list = |element: u32, count: u64, bytes: &[u8]| {
        value(
            9,
            &[&element.to_le_bytes()[..], &count.to_le_bytes(), bytes].concat(),
        )
    };
    check(&[("k", list(9, 1, &[]))], "`k` has the type 9");
    check(&[("k", list(0, 1 << 30, &[]))], "cut short");
    check(&[("k", list(10, u64::MAX, &[]))], "too many");
    check(&[("k", list(8, u64::MAX, &[0; 64]))], "its header");
    check(&[("k", list(4, 1000, &[]))], "cut short");
    let long = |length: u64| value(8, &length.to_le_bytes());
    check(&[("k", long(1 << 62))], "at most 1048576 are allowed");
    check(&[("k", long(1 << 19))], "cut short");
    check(&[("k", value(8, b"\x01\0\0\0\0\0\0\0\xff"))], "no UTF-8");
    check(&[(&"k".repeat(300), value(0, &[1]))], "a key has 300 bytes");
}

#[test]
fn the_beginning_must_be_that_of_a_version_that_is_read() {
    let good = made(&[], &[("a", &[8], 0, 0)], 32);
    let check = |change: &dyn Fn(&mut Vec<u8>), expected: &str| {
        let mut bytes = good.clone();
        change(&mut bytes);
        let said = header(&bytes).expect_err(expected);
        assert!(said.contains(expected), "{said}; expected {expected}");
    };
    check(&|bytes| bytes.clear(), "is empty");
    check(&|bytes| bytes[0] = b'g', "does not begin with `GGUF`");
    check(
        &|bytes| bytes[4] = 1,
        "version 1; versions 2 and 3 are read",
    );
    check(
        &|bytes| bytes[4..8].copy_from_slice(&[0, 0, 0, 3]),
        "big-endian",
    );
    check(&|bytes| bytes[8..16].fill(0xff), "tensors; at most");
    check(&|bytes| bytes[16..24].fill(0xff), "values; at most");
    for length in 1..good.len() {
        check(&|bytes| bytes.truncate(length), "cut short");
    }
    let mut two = good.clone();
    two[4] = 2;
    assert!(header(&two).is_ok());
}

#[test]
fn a_flipped_byte_never_panics_and_never_makes_tensors_share_bytes() {
    let whole = file("llama.gguf");
    let end = header(&whole).expect("whole").bytes() as usize;
    let mut read = [0, 0];
    for at in 0..end {
        for flip in [1, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            let header = header(&bytes);
            read[usize::from(header.is_ok())] += 1;
            let Ok(header) = header else { continue };
            let mut end = 0;
            for tensor in header.tensors() {
                assert!(tensor.data.start >= end);
                end = tensor.data.end;
            }
            assert!(header.bytes() + end <= bytes.len() as u64);
            let config = model::gguf::config::config_json(&header, Default::default());
            if let Ok(config) = config {
                let _ = model::decoder::Config::parse(&config, None);
            }
            for key in header.keys() {
                if let Some(array) = header.array(key) {
                    let _ = array.texts(bytes.as_slice());
                }
            }
        }
    }
    assert!(read.iter().all(|count| *count > 500), "{read:?}");
}

#[test]
fn the_judge_knows_gguf_files() {
    let said = |name: &str, bytes: &[u8]| {
        let mut judge = Judge::default();
        judge
            .file(name, bytes.len() as u64, bytes)
            .map_err(|flaw| flaw.to_string())
    };
    let whole = file("qwen2.gguf");
    assert_eq!(said("any name.gguf", &whole), Ok(()));
    let cut = said("a.GGUF", &whole[..whole.len() - 64]).expect_err("is cut");
    assert!(cut.contains("is no whole GGUF file"), "{cut}");
}
