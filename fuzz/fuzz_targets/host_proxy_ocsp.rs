//! An OCSP request, and an answer to it: the first two bytes say where the one ends and the other begins.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pki::ocsp::{Request, Response};

fuzz_target!(|bytes: &[u8]| {
    let Some((head, rest)) = bytes.split_first_chunk::<2>() else {
        return;
    };
    let at = usize::from(u16::from_be_bytes(*head)).min(rest.len());
    let (request, answer) = rest.split_at(at);
    let _ = Request::parse(request);
    let _ = Response::parse(answer);
});
