//! One source of tensors, whatever files they lie in: `model.safetensors`, shards with an index, or one GGUF file.
//!
//! ```text
//! Weights::open   reads the headers                       names, types, shapes; nothing of the tensors
//! Weights::check  holds them against what a model needs   a missing, extra or misshaped tensor is an error by name
//! Weights::read   hands over every row, once, in the order of the files, and hashes the files while it does
//! ```
//! Names, order of rows and meaning of norms are those of Hugging Face, whatever the file: of GGUF the names are translated, rotated
//! heads put back in order and Gemma's norms diminished by one ([`crate::gguf::names`]). Nothing larger than [`ROWS_BYTES`] or one row
//! is held, so that rows can go straight to where they are kept.

mod hashed;
mod plan;
mod rows;

use std::collections::BTreeMap;
use std::io::{BufReader, Read};

use crate::dtype::Dtype;
use crate::files::Ledger;
use crate::gguf::names::Rule;
use crate::tensors::Header;
use crate::whole::is_gguf;
use crate::{FileDigest, ModelError, gguf};

use hashed::Hashed;

pub use plan::Plan;
pub use rows::{Row, Rows};

/// Bytes that are read at once, or one row where that is longer.
pub const ROWS_BYTES: usize = 256 * 1024;

/// An opened file of weights. Whoever links this crate opens it.
pub struct Part {
    /// Its name in the model's directory.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// What is in it, from the first byte on.
    pub content: Box<dyn Read>,
}

/// The weights of one model, with the headers read.
pub struct Weights {
    files: Vec<File>,
    gguf: Option<gguf::Header>,
    ledger: Option<Ledger>,
}

/// One tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Its name, as Hugging Face has it; for a tensor that has none there, as the file has it.
    pub name: String,
    /// How its numbers are stored, or the name of a type that is not read here.
    pub dtype: Result<Dtype, String>,
    /// Its extent in each dimension, rows first.
    pub shape: Vec<usize>,
}

struct File {
    name: String,
    content: BufReader<Hashed>,
    /// In the order of their bytes, with the number of those.
    tensors: Vec<(Tensor, u64, Rule)>,
}

impl Tensor {
    /// Numbers in a row: the last extent.
    pub fn columns(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Rows: the product of the other extents; a vector is one row.
    pub fn rows(&self) -> usize {
        let (_, rows) = self.shape.split_last().unwrap_or((&1, &[]));
        rows.iter().product()
    }
}

impl Weights {
    /// Reads the headers of `parts`: one `*.gguf`, or any number of `*.safetensors`.
    pub fn open(parts: Vec<Part>) -> Result<Self, ModelError> {
        let (mut files, mut header) = (Vec::new(), None);
        let alone = parts.len() == 1;
        for Part {
            name,
            bytes,
            content,
        } in parts
        {
            let mut content = BufReader::with_capacity(ROWS_BYTES, Hashed::new(content, bytes));
            let flawed = |flaw| ModelError::Weights {
                file: name.clone(),
                flaw,
            };
            let tensors = match is_gguf(&name) {
                false => safetensors(Header::read(bytes, &mut content).map_err(flawed)?),
                true if alone => {
                    let read = gguf::Header::read(bytes, &mut content).map_err(flawed)?;
                    let tensors = of_gguf(&read)?;
                    header = Some(read);
                    tensors
                }
                true => {
                    let what = format!("{name} and other files of weights beside it");
                    return Err(ModelError::Unsupported(what));
                }
            };
            files.push(File {
                name,
                content,
                tensors,
            });
        }
        Ok(Weights {
            files,
            gguf: header,
            ledger: None,
        })
    }

    /// The same, whose digests are noted once they are read.
    pub(crate) fn recorded(mut self, ledger: Ledger) -> Self {
        self.ledger = Some(ledger);
        self
    }

    /// The header of the GGUF file, if they are in one.
    pub fn gguf(&self) -> Option<&gguf::Header> {
        self.gguf.as_ref()
    }

    /// All tensors, in the order in which they are read.
    pub fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        let files = self.files.iter();
        files.flat_map(|file| file.tensors.iter().map(|(tensor, ..)| tensor))
    }

    /// Holds names, types and shapes against what a model needs.
    pub fn check(&self, plan: &Plan) -> Result<(), ModelError> {
        plan.check(self.tensors())
    }

    /// Checks the tensors and hands over those that `plan` wants, one after another in the order of the files. Rows that `take` leaves
    /// are passed over. Gives the digests of the files, by name.
    ///
    /// # Errors
    /// Those of [`Weights::check`], before anything is handed over; a file that ends early or cannot be read, a number that is not
    /// finite; and what `take` says.
    pub fn read<E: From<ModelError>>(
        self,
        plan: &Plan,
        mut take: impl FnMut(&Tensor, &mut Rows<'_>) -> Result<(), E>,
    ) -> Result<BTreeMap<String, FileDigest>, E> {
        self.check(plan)?;
        let mut digests = BTreeMap::new();
        let mut buffer = Vec::new();
        for File {
            name,
            mut content,
            tensors,
        } in self.files
        {
            for (tensor, bytes, rule) in &tensors {
                let padding = rule.padding;
                if plan.wants(&tensor.name) {
                    let mut rows = Rows::new(&name, tensor, rule, &mut content, &mut buffer)?;
                    take(tensor, &mut rows)?;
                    rows.finish()?;
                    rows::skip(&name, &mut content, padding)?;
                } else {
                    rows::skip(&name, &mut content, bytes + padding)?;
                }
            }
            let digest = content.into_inner().finish();
            let digest = digest.map_err(|flaw| ModelError::Weights {
                file: name.clone(),
                flaw,
            })?;
            if let Some(ledger) = &self.ledger {
                ledger.record(&name, digest).map_err(ModelError::from)?;
            }
            digests.insert(name, digest);
        }
        Ok(digests)
    }
}

fn safetensors(header: Header) -> Vec<(Tensor, u64, Rule)> {
    let mut tensors: Vec<_> = header
        .names()
        .filter_map(|name| Some((name, header.tensor(name)?)))
        .collect();
    tensors.sort_by_key(|(_, tensor)| (tensor.data.start, tensor.data.end));
    let tensors = tensors.into_iter().map(|(name, tensor)| {
        let dtype = match tensor.dtype {
            "F32" => Ok(Dtype::F32),
            "F16" => Ok(Dtype::F16),
            "BF16" => Ok(Dtype::Bf16),
            other => Err(other.to_owned()),
        };
        let bytes = tensor.data.end - tensor.data.start;
        let (name, shape) = (name.to_owned(), tensor.shape.clone());
        (Tensor { name, dtype, shape }, bytes, Rule::default())
    });
    tensors.collect()
}

/// The tensors of a GGUF file under Hugging Face's names.
fn of_gguf(header: &gguf::Header) -> Result<Vec<(Tensor, u64, Rule)>, ModelError> {
    let names = gguf::names::Names::of(header)?;
    let tensors = header.tensors();
    let ends = tensors.iter().skip(1).map(|tensor| tensor.data.start);
    let last = tensors.last().map(|tensor| tensor.data.end);
    let tensors = tensors.iter().zip(ends.chain(last)).map(|(tensor, end)| {
        let (name, mut rule) = names.translate(&tensor.name);
        rule.padding = end - tensor.data.end;
        let bytes = tensor.data.end - tensor.data.start;
        let (dtype, shape) = (Ok(tensor.dtype), tensor.shape.clone());
        (Tensor { name, dtype, shape }, bytes, rule)
    });
    Ok(tensors.collect())
}
