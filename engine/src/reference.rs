//! The models as plain Burn modules in single precision, on any backend: what the packed path is compared with, layer by layer, and
//! what a backend without packed weights would run.

mod bert;
mod decoder;
mod plain;

use burn::module::Param;
use burn::nn;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use model::ModelError;

pub use bert::Bert;
pub use decoder::Decoder;
pub use plain::Plain;

/// Where a reference takes its numbers from.
pub trait Tensors {
    /// All numbers of a tensor, row-major.
    fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError>;
}

impl<F: FnMut(&str, &[usize]) -> Result<Vec<f32>, ModelError>> Tensors for F {
    fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        self(name, shape)
    }
}

/// A tensor as it is stored.
fn tensor<B: Backend, const D: usize>(
    tensors: &mut dyn Tensors,
    name: &str,
    shape: [usize; D],
    device: &B::Device,
) -> Result<Tensor<B, D>, ModelError> {
    let values = tensors.take(name, &shape)?;
    Ok(Tensor::from_data(TensorData::new(values, shape), device))
}

/// `NAME.weight` and, if there is one, `NAME.bias`. Stored as `[out, in]`; held as `[in, out]`.
fn linear<B: Backend>(
    tensors: &mut dyn Tensors,
    name: &str,
    [inputs, outputs]: [usize; 2],
    bias: bool,
    device: &B::Device,
) -> Result<nn::Linear<B>, ModelError> {
    let weight = format!("{name}.weight");
    let weight: Tensor<B, 2> = tensor(tensors, &weight, [outputs, inputs], device)?;
    let bias = match bias {
        true => Some(tensor(tensors, &format!("{name}.bias"), [outputs], device)?),
        false => None,
    };
    Ok(nn::Linear {
        weight: Param::from_tensor(weight.transpose()),
        bias: bias.map(Param::from_tensor),
    })
}
