//! Who sees every address and every branch of a whole decoder and its sampler learns nothing of tokens and scores: what `kernels`
//! shows of its parts, for all that lies between a job and its tokens.

#[path = "../../kernels/tests/constant/eye.rs"]
mod eye;
mod subject;
#[path = "../../kernels/tests/constant/valgrind.rs"]
mod valgrind;
