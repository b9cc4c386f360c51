//! Decoders in files of packed weights: what [`Decoder::load`] makes of a checkpoint, kept so that loading it again is one copy.
//!
//! Parts have the names of the tensors that they were made from. A matrix is as the kernels keep it; norms and biases are f32 in a
//! row, little-endian, as they are used (Gemma's norms with their one added).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::sync::Arc;

use kernels::{Kernels, Kind};
use model::decoder::Config;
use model::packed_file::{Header, PackedFileError, Part as FilePart, Reader, Source, Writer};
use model::{FileDigest, ModelError};

use super::Decoder;
use super::flex::PackedDecoder;
use super::load::{Options, needs, zeroed};
use super::parts::{Part, part};
use crate::EngineError;
use crate::backend::Cpu;
use crate::memory::Needs;
use crate::packed::Place;
use crate::parallel_file::ParallelFile;

/// The name of a file of packed weights in a model's directory.
pub const FILE: &str = "model.packed";
/// The kind of a vector.
const PLAIN: &str = "plain";

impl Decoder<Cpu> {
    /// Writes the weights. `packer` is what the file names as its maker; its sources are the files that were loaded. Returns its digest.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_packed(
        &mut self,
        packer: String,
        out: impl Write,
    ) -> Result<[u8; 32], EngineError> {
        let plan = self.config().plan();
        let names: Vec<String> = plan.wanted().map(|(name, _)| name.to_owned()).collect();
        let sources = self.sources().iter().map(|(name, digest)| Source {
            name: name.clone(),
            bytes: digest.bytes,
            sha256: hex(&digest.sha256),
        });
        let sources = sources.collect();
        let packed = self.packed();
        let mut parts = Vec::new();
        for name in &names {
            parts.push(packed.part_of(name)?.1);
        }
        let header = Header {
            packer,
            sources,
            parts,
        };
        let mut writer = Writer::start(header, out)?;
        for name in &names {
            match packed.part_of(name)?.0 {
                Place::Matrix(matrix) => writer.write(matrix.as_bytes())?,
                Place::Norm(numbers) | Place::Plain(numbers) => writer.write(&to_bytes(numbers))?,
            }
        }
        Ok(writer.finish()?)
    }

    /// Reads the weights of a file of `bytes` bytes straight to where they stay. Returns what the file says of itself. The digest at its
    /// end, which was compared, is that of the decoder's only source, [`FILE`].
    ///
    /// # Errors
    /// The file is damaged, or a part is missing, extra or of another shape; there is no memory.
    pub fn load_packed<R: Read>(
        config: &Config,
        bytes: u64,
        content: R,
        kernels: Arc<Kernels>,
        options: &Options,
    ) -> Result<(Self, Header), EngineError> {
        Self::fill(
            config,
            bytes,
            Reader::open(bytes, content)?,
            kernels,
            options,
        )
    }

    /// The same for a file whose bytes something else vouches for, such as dm-verity below it: its digest is not compared, and it is
    /// read by several threads.
    ///
    /// # Errors
    /// Those of [`Decoder::load_packed`] but for the digest.
    pub fn load_packed_verified_elsewhere(
        config: &Config,
        bytes: u64,
        content: File,
        kernels: Arc<Kernels>,
        options: &Options,
    ) -> Result<(Self, Header), EngineError> {
        Self::fill(
            config,
            bytes,
            Reader::open_verified_elsewhere(bytes, ParallelFile::new(content))?,
            kernels,
            options,
        )
    }

    /// The memory that loading a file of this header takes.
    ///
    /// # Errors
    /// A part is missing or extra.
    pub fn needs_packed(
        config: &Config,
        header: &Header,
        options: &Options,
    ) -> Result<Needs, EngineError> {
        Ok(needs(config, &kinds(config, header)?, options))
    }

    fn fill<R: Read>(
        config: &Config,
        bytes: u64,
        mut reader: Reader<R>,
        kernels: Arc<Kernels>,
        options: &Options,
    ) -> Result<(Self, Header), EngineError> {
        let kinds = kinds(config, reader.header())?;
        let mut packed = zeroed(config, &kinds, kernels, options)?;
        while let Some(next) = reader.next() {
            let name = next.name.clone();
            let expected = packed.part_of(&name)?.1;
            if *next != expected {
                return Err(ModelError::TensorShape {
                    name,
                    found: vec![next.rows, next.columns],
                    expected: vec![expected.rows, expected.columns],
                }
                .into());
            }
            match packed.part_of(&name)?.0 {
                Place::Matrix(matrix) => reader.read(matrix.as_bytes_mut())?,
                Place::Norm(numbers) | Place::Plain(numbers) => {
                    let mut bytes = vec![0; size_of_val(numbers)];
                    reader.read(&mut bytes)?;
                    from_bytes(&bytes, numbers);
                    if numbers.iter().any(|number| !number.is_finite()) {
                        return Err(ModelError::TensorNotFinite(name).into());
                    }
                }
            }
        }
        let (header, digest) = reader.finish()?;
        let mut decoder = Decoder::of_packed(config, options, packed);
        let sha256 = digest;
        let whole = FileDigest { bytes, sha256 };
        decoder.sources.insert(FILE.to_owned(), whole);
        Ok((decoder, header))
    }
}

/// How the matrices of a file are kept, after every part that the model needs was found in it and none besides.
fn kinds(config: &Config, header: &Header) -> Result<BTreeMap<Part, Kind>, EngineError> {
    let plan = config.plan();
    let found: BTreeMap<&str, &FilePart> = header
        .parts
        .iter()
        .map(|part| (part.name.as_str(), part))
        .collect();
    if let Some((name, _)) = plan.wanted().find(|(name, _)| !found.contains_key(name)) {
        return Err(ModelError::TensorMissing(name.to_owned()).into());
    }
    let mut kinds = BTreeMap::new();
    for (name, file) in found {
        let part = part(config, name).filter(|_| plan.wants(name));
        let part = part.ok_or_else(|| ModelError::TensorExtra(name.to_owned()))?;
        if let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == file.kind) {
            kinds.insert(part, kind);
        }
    }
    Ok(kinds)
}

impl PackedDecoder {
    /// Where the part called `name` is kept, and how a file describes it.
    fn part_of(&mut self, name: &str) -> Result<(Place<'_>, FilePart), EngineError> {
        let part = part(&self.config, name);
        let place = self.place(part.ok_or_else(|| ModelError::TensorExtra(name.to_owned()))?);
        let (kind, rows, columns, bytes) = match &place {
            Place::Matrix(matrix) => (
                matrix.kind().name(),
                matrix.rows(),
                matrix.columns(),
                matrix.bytes(),
            ),
            Place::Norm(numbers) | Place::Plain(numbers) => {
                (PLAIN, 1, numbers.len(), size_of_val(&numbers[..]))
            }
        };
        let file = FilePart {
            name: name.to_owned(),
            kind: kind.to_owned(),
            rows,
            columns,
            bytes: bytes as u64,
        };
        Ok((place, file))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn to_bytes(numbers: &[f32]) -> Vec<u8> {
    numbers
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect()
}

fn from_bytes(bytes: &[u8], numbers: &mut [f32]) {
    for (number, bytes) in numbers.iter_mut().zip(bytes.chunks_exact(4)) {
        *number = f32::from_le_bytes(bytes.try_into().expect("four bytes"));
    }
}

impl From<PackedFileError> for EngineError {
    fn from(error: PackedFileError) -> Self {
        ModelError::from(error).into()
    }
}
