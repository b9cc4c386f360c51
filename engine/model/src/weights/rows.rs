//! The rows of one tensor, as they come out of the file.

use std::io::{self, BufReader, ErrorKind, Read};

use super::hashed::Hashed;
use super::{ROWS_BYTES, Tensor};
use crate::ModelError;
use crate::dtype::Dtype;
use crate::gguf::names::Rule;
use crate::whole::Flaw;

/// The rows of one tensor.
pub struct Rows<'a> {
    file: &'a str,
    tensor: &'a Tensor,
    rule: &'a Rule,
    content: &'a mut BufReader<Hashed>,
    buffer: &'a mut Vec<u8>,
    dtype: Dtype,
    row_bytes: usize,
    /// Rows handed over, and rows in the buffer.
    next: usize,
    held: std::ops::Range<usize>,
}

/// One row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row<'a> {
    /// Its place in the tensor. Rows need not come in order.
    pub index: usize,
    /// How its numbers are stored.
    pub dtype: Dtype,
    /// Whole blocks of that type, all of whose numbers are finite.
    pub bytes: &'a [u8],
}

impl Row<'_> {
    /// Its numbers: as many as the tensor has columns.
    pub fn to_f32(&self, out: &mut [f32]) {
        self.dtype.dequantise(self.bytes, out);
    }
}

impl<'a> Rows<'a> {
    pub(super) fn new(
        file: &'a str,
        tensor: &'a Tensor,
        rule: &'a Rule,
        content: &'a mut BufReader<Hashed>,
        buffer: &'a mut Vec<u8>,
    ) -> Result<Self, ModelError> {
        let type_error = |found: &str| ModelError::TensorType {
            name: tensor.name.clone(),
            found: found.to_owned(),
        };
        let dtype = tensor.dtype.as_ref().map_err(|found| type_error(found))?;
        let row_bytes = dtype.row_bytes(tensor.columns());
        Ok(Rows {
            file,
            tensor,
            rule,
            content,
            buffer,
            dtype: *dtype,
            row_bytes: row_bytes.ok_or_else(|| type_error(dtype.name()))?,
            next: 0,
            held: 0..0,
        })
    }

    /// The next row; `None` behind the last.
    #[expect(
        clippy::should_implement_trait,
        reason = "a row borrows the buffer of all rows"
    )]
    pub fn next(&mut self) -> Result<Option<Row<'_>>, ModelError> {
        let rows = self.tensor.rows();
        if self.next == rows {
            return Ok(None);
        }
        if self.next == self.held.end {
            let many = (ROWS_BYTES / self.row_bytes.max(1)).clamp(1, rows - self.next);
            self.fill(many)?;
        }
        let start = (self.next - self.held.start) * self.row_bytes;
        let index = self.rule.row(self.next);
        self.next += 1;
        let (mut dtype, mut range) = (self.dtype, start..start + self.row_bytes);
        if self.rule.changes(self.tensor) {
            // Only vectors are changed, whose one row is the whole tensor: the buffer is free for what becomes of it.
            let mut numbers = vec![0.0; self.tensor.columns()];
            dtype.dequantise(&self.buffer[range], &mut numbers);
            self.rule.change(&mut numbers);
            self.buffer.clear();
            self.buffer
                .extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
            (dtype, range) = (Dtype::F32, 0..self.buffer.len());
        }
        let bytes = &self.buffer[range];
        Ok(Some(Row {
            index,
            dtype,
            bytes,
        }))
    }

    /// All numbers of the tensor, in order: for norms and biases.
    pub fn to_vec(&mut self) -> Result<Vec<f32>, ModelError> {
        let (rows, columns) = (self.tensor.rows(), self.tensor.columns());
        let mut numbers = vec![0.0; rows * columns];
        while let Some(row) = self.next()? {
            row.to_f32(&mut numbers[row.index * columns..][..columns]);
        }
        Ok(numbers)
    }

    /// Passes over what was left.
    pub(super) fn finish(self) -> Result<(), ModelError> {
        let left = (self.tensor.rows() - self.held.end) as u64 * self.row_bytes as u64;
        skip(self.file, self.content, left)
    }

    fn fill(&mut self, rows: usize) -> Result<(), ModelError> {
        self.buffer.resize(rows * self.row_bytes, 0);
        let read = self.content.read_exact(self.buffer);
        read.map_err(|error| unreadable(self.file, &error))?;
        self.held = self.next..self.next + rows;
        match self.dtype.is_finite(self.buffer) {
            true => Ok(()),
            false => Err(ModelError::TensorNotFinite(self.tensor.name.clone())),
        }
    }
}

/// Passes over so many bytes of a file.
pub(super) fn skip(
    file: &str,
    content: &mut BufReader<Hashed>,
    bytes: u64,
) -> Result<(), ModelError> {
    let skipped = io::copy(&mut content.take(bytes), &mut io::sink());
    match skipped.map_err(|error| unreadable(file, &error))? == bytes {
        true => Ok(()),
        false => Err(unreadable(file, &ErrorKind::UnexpectedEof.into())),
    }
}

fn unreadable(file: &str, error: &io::Error) -> ModelError {
    let (file, flaw) = (file.to_owned(), Flaw::Unreadable(error.kind()));
    ModelError::Weights { file, flaw }
}
