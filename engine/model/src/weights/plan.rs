//! Which tensors a model needs: each is accounted for.

use std::collections::{BTreeMap, BTreeSet};

use super::Tensor;
use crate::ModelError;

/// Names and shapes that a model needs, and names that may be there beside them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    wanted: BTreeMap<String, Vec<usize>>,
    ignored: BTreeSet<String>,
}

impl Plan {
    /// Needs a tensor of this shape.
    pub fn want(&mut self, name: impl Into<String>, shape: &[usize]) {
        self.wanted.insert(name.into(), shape.to_vec());
    }

    /// Allows a tensor that is not read.
    pub fn ignore(&mut self, name: impl Into<String>) {
        self.ignored.insert(name.into());
    }

    /// Whether it needs the tensor called so.
    pub fn wants(&self, name: &str) -> bool {
        self.wanted.contains_key(name)
    }

    /// What it needs, by name and shape.
    pub fn wanted(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.wanted
            .iter()
            .map(|(name, shape)| (name.as_str(), shape.as_slice()))
    }

    /// Numbers in all tensors that it needs.
    pub fn parameters(&self) -> u64 {
        let numbers =
            |shape: &Vec<usize>| shape.iter().map(|extent| *extent as u64).product::<u64>();
        self.wanted
            .values()
            .map(numbers)
            .fold(0, u64::saturating_add)
    }

    /// Holds tensors against it.
    pub fn check<'a>(&self, tensors: impl Iterator<Item = &'a Tensor>) -> Result<(), ModelError> {
        let mut missing: BTreeSet<&str> = self.wanted.keys().map(String::as_str).collect();
        for Tensor { name, dtype, shape } in tensors {
            let Some(expected) = self.wanted.get(name) else {
                match self.ignored.contains(name) {
                    true => continue,
                    false => return Err(ModelError::TensorExtra(name.clone())),
                }
            };
            if !missing.remove(name.as_str()) {
                return Err(ModelError::TensorTwice(name.clone()));
            }
            if shape != expected {
                return Err(ModelError::TensorShape {
                    name: name.clone(),
                    found: shape.clone(),
                    expected: expected.clone(),
                });
            }
            if let Err(found) = dtype {
                let (name, found) = (name.clone(), found.clone());
                return Err(ModelError::TensorType { name, found });
            }
        }
        match missing.first() {
            Some(name) => Err(ModelError::TensorMissing((*name).to_owned())),
            None => Ok(()),
        }
    }
}
