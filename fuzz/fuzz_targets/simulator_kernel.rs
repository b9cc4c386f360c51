//! A kernel file, by the simulator's own file: where it and the predictor both have an answer, it is the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use predict::authenticode::authenticode;
use simulator::limits;

#[rustfmt::skip]
#[path = "../../measurements/simulator/src/kernel.rs"]
mod kernel;

fuzz_target!(|bytes: &[u8]| {
    if let (Ok(simulated), Ok(predicted)) = (kernel::authenticode(bytes), authenticode(bytes)) {
        assert_eq!(simulated, predicted);
    }
});
