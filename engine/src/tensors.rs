//! Named arrays of numbers, checked against the shape that the configuration calls for.
//!
//! A model asks for each of its tensors by name and shape, in one fixed order.

use burn::module::Param;
use burn::nn;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use model::{ModelError, limits};
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;

/// A parsed `model.safetensors`. The bytes stay where they are; only tensors that are taken are copied.
pub struct Stored<'a>(SafeTensors<'a>);

impl<'a> Stored<'a> {
    /// Reads the header. Nothing is allocated for the tensors.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ModelError> {
        let header_bytes = bytes
            .first_chunk::<8>()
            .map(|length| u64::from_le_bytes(*length))
            .ok_or_else(|| ModelError::Header("no header length".into()))?;
        if header_bytes > limits::WEIGHTS_HEADER_BYTES_MAX {
            return Err(ModelError::Header(format!(
                "it claims {header_bytes} bytes; at most {} are allowed",
                limits::WEIGHTS_HEADER_BYTES_MAX
            )));
        }
        SafeTensors::deserialize(bytes)
            .map(Stored)
            .map_err(|error| ModelError::Header(error.to_string()))
    }

    /// The tensor `name`, row-major, which must have `shape` and hold finite numbers only.
    fn take(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        let view = self
            .0
            .tensor(name)
            .map_err(|_| ModelError::TensorMissing(name.into()))?;
        if view.shape() != shape {
            return Err(ModelError::TensorShape {
                name: name.into(),
                found: view.shape().to_vec(),
                expected: shape.to_vec(),
            });
        }
        if view.dtype() != Dtype::F32 {
            return Err(ModelError::TensorType {
                name: name.into(),
                found: format!("{:?}", view.dtype()),
            });
        }
        // The header may place a tensor at any byte, so the numbers are read byte by byte, not by a cast.
        let (numbers, _) = view.data().as_chunks::<4>();
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
