//! A stream of frames in two pieces: no frame is longer than the bytes that came.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (head, tail) = bytes.split_at(bytes.len() / 2);
    let mut decoder = wire::FrameDecoder::default();
    let mut taken = 0;
    for piece in [head, tail] {
        decoder.push(piece);
        while let Ok(Some(frame)) = decoder.next_frame() {
            taken += frame.payload.len();
        }
    }
    assert!(taken <= bytes.len());
    let _ = decoder.finish();
});
