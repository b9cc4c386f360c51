//! A decoder in a file of packed weights is the decoder that was packed, to the bit, or an error that names what is wrong.

use std::sync::Arc;

use engine::decoder::Decoder;
use engine::{BlockTable, EngineError, Forward, Row};
use kernels::{Kernels, Kind, Path};
use model::ModelError;
use model::packed_file::{Header, PackedFileError, Writer};

use crate::checkpoint::{DECODERS, Reference};
use crate::packed::{config, load, options};

fn packed(decoder: &mut Decoder) -> Vec<u8> {
    let mut file = Vec::new();
    decoder
        .write_packed("test 1".into(), &mut file)
        .expect("memory can be written");
    file
}

fn unpacked(
    reference: &Reference,
    kind: Kind,
    file: &[u8],
) -> Result<(Decoder, Header), EngineError> {
    let kernels = Kernels::new(Path::detect(), 1).expect("the path is this processor's");
    Decoder::load_packed(
        &config(reference),
        file.len() as u64,
        file,
        Arc::new(kernels),
        &options(kind, 1),
    )
}

fn refusal(reference: &Reference, file: &[u8]) -> ModelError {
    match unpacked(reference, Kind::Q8, file) {
        Err(EngineError::Model(error)) => error,
        Err(other) => panic!("not the file's fault: {other}"),
        Ok(_) => panic!("accepted"),
    }
}

fn bits(decoder: &mut Decoder, prompt: &[u32]) -> Vec<u32> {
    let rows = (0..).zip(prompt).map(|(position, token)| Row {
        sequence: 0,
        token: *token,
        position,
        scored: true,
        keeps: false,
        kept: false,
    });
    let table = BlockTable((0..decoder.shape().blocks as u32).collect());
    let mut scores = Vec::new();
    decoder
        .forward(&rows.collect::<Vec<_>>(), &[table], &mut scores)
        .expect("the prompt fits");
    scores.iter().map(|score| score.to_bits()).collect()
}

#[test]
fn every_family_and_kind_computes_the_same_bits_from_its_file() {
    for (name, text) in DECODERS {
        let reference = Reference::parse(text);
        for kind in Kind::ALL {
            let mut made = load(&reference, &options(kind, 1), 1);
            let file = packed(&mut made);
            let (mut read, header) = unpacked(&reference, kind, &file).expect("the file is whole");
            let source = &header.sources[0];
            assert_eq!(
                (header.packer.as_str(), header.sources.len()),
                ("test 1", 1)
            );
            let digest = made.sources()["model.safetensors"];
            assert_eq!(
                (source.name.as_str(), source.bytes),
                ("model.safetensors", digest.bytes)
            );
            assert_eq!(source.sha256[..2], format!("{:02x}", digest.sha256[0]));
            assert_eq!(
                read.sources()["model.packed"].sha256,
                file[file.len() - 32..]
            );
            assert_eq!(
                bits(&mut made, &reference.prompt),
                bits(&mut read, &reference.prompt),
                "{name} {kind:?}"
            );
        }
    }
}

/// The file with other parts: `change` sees each part and may rename it, or take it away by an empty name.
fn changed(reference: &Reference, change: impl Fn(&mut model::packed_file::Part)) -> Vec<u8> {
    let file = packed(&mut load(reference, &options(Kind::Q8, 1), 1));
    let mut reader =
        model::packed_file::Reader::open(file.len() as u64, &file[..]).expect("it is whole");
    let mut header = reader.header().clone();
    let mut contents = Vec::new();
    while let Some(part) = reader.next() {
        let mut content = vec![0; part.bytes as usize];
        reader.read(&mut content).expect("it is whole");
        contents.push(content);
    }
    header.parts.iter_mut().for_each(change);
    let kept: Vec<bool> = header
        .parts
        .iter()
        .map(|part| !part.name.is_empty())
        .collect();
    header.parts.retain(|part| !part.name.is_empty());
    let contents = contents
        .iter()
        .zip(kept)
        .filter(|(_, kept)| *kept)
        .map(|(content, _)| content);
    let mut out = Vec::new();
    let mut writer = Writer::start(header.clone(), &mut out).expect("the header is fine");
    for (content, part) in contents.zip(&header.parts) {
        let mut content = content.clone();
        content.resize(part.bytes as usize, 0);
        writer
            .write(&content)
            .expect("it has the length of its part");
    }
    writer.finish().expect("all parts are written");
    out
}

#[test]
fn parts_that_are_missing_extra_or_of_another_shape_are_named() {
    let reference = Reference::decoder("qwen2");
    let (norm, query) = (
        "model.norm.weight",
        "model.layers.0.self_attn.q_proj.weight",
    );
    let renamed = |from: &str, to: &str| {
        changed(&reference, |part| {
            if part.name == from {
                part.name = to.into();
            }
        })
    };
    assert_eq!(
        refusal(&reference, &renamed(norm, "")),
        ModelError::TensorMissing(norm.into())
    );
    let extra = "model.layers.7.self_attn.q_proj.weight";
    assert_eq!(
        refusal(&reference, &renamed(query, extra)),
        ModelError::TensorMissing(query.into())
    );
    let longer = changed(&reference, |part| {
        if part.name == norm {
            (part.columns, part.bytes) = (part.columns + 1, part.bytes + 4);
        }
    });
    assert!(
        matches!(refusal(&reference, &longer), ModelError::TensorShape { name, .. } if name == norm)
    );
    let other_kind = changed(&reference, |part| {
        if part.name == query {
            part.kind = "q4".into();
        }
    });
    assert!(
        matches!(refusal(&reference, &other_kind), ModelError::TensorShape { name, .. } if name == query)
    );
    // Qwen2 needs biases that Llama does not have.
    let llama = packed(&mut load(
        &Reference::decoder("smollm2"),
        &options(Kind::Q8, 1),
        1,
    ));
    assert!(matches!(
        refusal(&reference, &llama),
        ModelError::TensorMissing(_)
    ));
}

#[test]
fn damage_is_found_wherever_it_is() {
    let reference = Reference::decoder("llama2");
    let file = packed(&mut load(&reference, &options(Kind::Q4, 1), 1));
    let step = file.len() / 97;
    for at in (0..file.len())
        .step_by(step)
        .chain(file.len() - 40..file.len())
    {
        let mut file = file.clone();
        file[at] ^= 0x10;
        assert!(unpacked(&reference, Kind::Q4, &file).is_err(), "byte {at}");
    }
    let mut last = file.clone();
    *last.last_mut().expect("it has bytes") ^= 1;
    assert_eq!(
        refusal(&reference, &last),
        ModelError::PackedFile(PackedFileError::Digest)
    );
    let cut = &file[..file.len() - 1];
    assert!(matches!(
        refusal(&reference, cut),
        ModelError::PackedFile(PackedFileError::Length { .. })
    ));
}
