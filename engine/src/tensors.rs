//! Named arrays of numbers, checked against the shape that the configuration calls for.
//!
//! A model asks for each of its tensors by name and shape, in one fixed order.

use burn::module::Param;
use burn::nn;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use model::ModelError;
use model::tensors::Header;

/// A parsed `model.safetensors`. The bytes stay where they are; only tensors that are taken are copied.
pub struct Stored<'a> {
    header: Header,
    data: &'a [u8],
}

impl<'a> Stored<'a> {
    /// Reads the header. Nothing is allocated for the tensors.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ModelError> {
        let refuse = |flaw: String| ModelError::Header(flaw);
        let header = Header::read(bytes.len() as u64, bytes);
        let header = header.map_err(|flaw| refuse(flaw.to_string()))?;
        let data = usize::try_from(header.bytes()).ok();
        let data = data.and_then(|start| bytes.get(start..));
        let data = data.ok_or_else(|| refuse("it is longer than the file".into()))?;
        Ok(Stored { header, data })
    }

    /// The tensor `name`, row-major, which must have `shape` and hold finite numbers only.
    fn take(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        let missing = || ModelError::TensorMissing(name.into());
        let tensor = self.header.tensor(name).ok_or_else(missing)?;
        if tensor.shape != shape {
            return Err(ModelError::TensorShape {
                name: name.into(),
                found: tensor.shape.clone(),
                expected: shape.to_vec(),
            });
        }
        if tensor.dtype != "F32" {
            return Err(ModelError::TensorType {
                name: name.into(),
                found: tensor.dtype.into(),
            });
        }
        let range = tensor.data.start as usize..tensor.data.end as usize;
        let bytes = self.data.get(range).ok_or_else(missing)?;
        // The header may place a tensor at any byte, so the numbers are read byte by byte, not by a cast.
        let (numbers, _) = bytes.as_chunks::<4>();
        let values: Vec<f32> = numbers.iter().map(|n| f32::from_le_bytes(*n)).collect();
        if !values.iter().all(|value| value.is_finite()) {
            return Err(ModelError::TensorNotFinite(name.into()));
        }
        Ok(values)
    }
}

/// A vector of `length` numbers as a parameter.
pub(crate) fn vector<B: Backend>(
    stored: &Stored<'_>,
    name: &str,
    length: usize,
    device: &B::Device,
) -> Result<Param<Tensor<B, 1>>, ModelError> {
    let values = stored.take(name, &[length])?;
    Ok(Param::from_tensor(Tensor::from_data(
        TensorData::new(values, [length]),
        device,
    )))
}

/// A table of `rows` vectors, as it is stored.
pub(crate) fn table<B: Backend>(
    stored: &Stored<'_>,
    name: &str,
    [rows, columns]: [usize; 2],
    device: &B::Device,
) -> Result<Param<Tensor<B, 2>>, ModelError> {
    let values = stored.take(name, &[rows, columns])?;
    Ok(Param::from_tensor(Tensor::from_data(
        TensorData::new(values, [rows, columns]),
        device,
    )))
}

/// A linear layer `NAME.weight` (and `NAME.bias`). Stored as `[out, in]`; held as `[in, out]`, row-major, because a
/// transposed view makes the CPU backend copy the whole weight for every token.
pub(crate) fn linear<B: Backend>(
    stored: &Stored<'_>,
    name: &str,
    [inputs, outputs]: [usize; 2],
    bias: bool,
    device: &B::Device,
) -> Result<nn::Linear<B>, ModelError> {
    let values = stored.take(&format!("{name}.weight"), &[outputs, inputs])?;
    let weight = TensorData::new(transposed(&values, outputs, inputs), [inputs, outputs]);
    let bias = match bias {
        true => Some(vector(stored, &format!("{name}.bias"), outputs, device)?),
        false => None,
    };
    Ok(nn::Linear {
        weight: Param::from_tensor(Tensor::from_data(weight, device)),
        bias,
    })
}

/// A `[rows, columns]` array as `[columns, rows]`, in square tiles so that both sides stay in the cache.
fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    const TILE: usize = 32;
    let mut out = vec![0.0; values.len()];
    for row_tile in (0..rows).step_by(TILE) {
        for column_tile in (0..columns).step_by(TILE) {
            for row in row_tile..rows.min(row_tile + TILE) {
                for column in column_tile..columns.min(column_tile + TILE) {
                    out[column * rows + row] = values[row * columns + column];
                }
            }
        }
    }
    out
}
