//! Evidence of GPUs that is verified and refused.

mod common;
mod evidence;
mod flips;
mod hostile;
mod known;
mod made;
mod ocsp;
