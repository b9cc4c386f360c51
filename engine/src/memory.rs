//! The memory that a model takes, known before it is taken: from its configuration and the headers of its files.

use std::fmt;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

use kernels::Kind;

use crate::EngineError;

/// Bytes, by what they are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    /// Weights as they are kept, norms and biases.
    pub weights: u64,
    /// Keys and values of all blocks.
    pub keys_values: u64,
    /// What passes and choices compute in.
    pub work: u64,
}

impl Needs {
    /// All of it.
    pub fn total(&self) -> u64 {
        let parts = [self.weights, self.keys_values, self.work];
        parts.into_iter().fold(0, u64::saturating_add)
    }

    /// Adds the weights of a tensor: a matrix of two extents in `kind`, any other in 32 bits.
    pub(crate) fn add(&mut self, shape: &[usize], kind: Kind) {
        let bytes = match shape {
            [rows, columns] => kind.bytes(*rows, *columns),
            _ => shape
                .iter()
                .try_fold(size_of::<f32>(), |bytes, extent| bytes.checked_mul(*extent)),
        };
        self.weights = self.weights.saturating_add(wide(bytes));
    }

    /// Adds numbers of 32 bits in which passes compute.
    pub(crate) fn add_work(&mut self, numbers: usize) {
        let bytes = numbers.checked_mul(size_of::<f32>());
        self.work = self.work.saturating_add(wide(bytes));
    }
}

/// What cannot be addressed is more than there is.
pub(crate) fn wide(bytes: Option<usize>) -> u64 {
    bytes.map_or(u64::MAX, |bytes| bytes as u64)
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} MiB ({} of weights, {} of keys and values, {} to compute in)",
            mib(self.total()),
            mib(self.weights),
            mib(self.keys_values),
            mib(self.work)
        )
    }
}

/// Whole mebibytes, rounded up.
pub(crate) fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

/// How much memory models may take together. Each takes its part before it is loaded.
#[derive(Debug)]
pub struct Memory {
    bytes: u64,
    taken: AtomicU64,
}

impl Memory {
    /// So many bytes.
    pub fn of(bytes: u64) -> Self {
        let taken = AtomicU64::new(0);
        Memory { bytes, taken }
    }

    /// As much as can be addressed: for tests and measurements.
    pub fn unlimited() -> Self {
        Memory::of(u64::MAX)
    }

    /// What this machine has available, by `/proc/meminfo`; no limit where it does not say.
    pub fn available() -> Self {
        let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        available_of(&text).map_or_else(Memory::unlimited, Memory::of)
    }

    /// No more than so many bytes, if there is a limit.
    pub fn at_most(self, bytes: Option<u64>) -> Self {
        Memory {
            bytes: self.bytes.min(bytes.unwrap_or(u64::MAX)),
            ..self
        }
    }

    /// Takes what a model needs.
    ///
    /// # Errors
    /// That much is not left.
    pub fn take(&self, needs: &Needs) -> Result<(), EngineError> {
        let total = needs.total();
        let within = |taken: u64| {
            let sum = taken.checked_add(total)?;
            (sum <= self.bytes).then_some(sum)
        };
        let (set, get) = (Ordering::Relaxed, Ordering::Relaxed);
        match self.taken.fetch_update(set, get, within) {
            Ok(_) => Ok(()),
            Err(taken) => Err(EngineError::Memory {
                needs: *needs,
                left: self.bytes.saturating_sub(taken),
            }),
        }
    }
}

/// The bytes of a line `MemAvailable:    1234 kB`.
fn available_of(meminfo: &str) -> Option<u64> {
    let mut lines = meminfo.lines();
    let line = lines.find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib = line.trim().strip_suffix("kB")?.trim_end().parse::<u64>();
    kib.ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(weights: u64) -> Needs {
        Needs {
            weights,
            keys_values: 1 << 20,
            work: 1,
        }
    }

    #[test]
    fn models_together_take_no_more_than_there_is() {
        let memory = Memory::of(5 << 20);
        assert_eq!(memory.take(&needs(1 << 20)), Ok(()));
        let (needs, left) = (needs(2 << 20), (3 << 20) - 1);
        let refused = memory.take(&needs).expect_err("too much");
        assert_eq!(refused, EngineError::Memory { needs, left });
        assert_eq!(
            refused.to_string(),
            "the model needs 4 MiB (2 of weights, 1 of keys and values, 1 to compute in); 2 MiB are left"
        );
        // What was refused took nothing.
        assert_eq!(memory.take(&Needs::default()), Ok(()));
        assert_eq!(memory.at_most(Some(7)).bytes, 7);
    }

    #[test]
    fn what_cannot_be_addressed_is_refused() {
        let mut endless = Needs::default();
        endless.add(&[usize::MAX, 2], Kind::F32);
        endless.add(&[usize::MAX], Kind::F32);
        endless.add_work(usize::MAX);
        assert_eq!(endless.total(), u64::MAX);
        assert!(Memory::of(u64::MAX - 1).take(&endless).is_err());
    }

    #[test]
    fn the_kernel_says_what_is_available() {
        let text = "MemTotal:       100 kB\nMemAvailable:      64 kB\n";
        assert_eq!(available_of(text), Some(65536));
        for text in ["", "MemAvailable: 64", "MemAvailable: x kB"] {
            assert_eq!(available_of(text), None, "{text}");
        }
        assert!(Memory::available().bytes > 1 << 20);
    }
}
