//! Packed rows give back what was packed.

use kernels::packed::{Q4_0_BYTES, Q4_1_BYTES, Q8_0_BYTES};
use kernels::{KernelError, Kind, Packed};

use crate::{bits, numbers};

const ROWS: usize = 19;

fn row(packed: &Packed, row: usize) -> Vec<f32> {
    let mut out = vec![0.0; packed.columns()];
    packed.row(row, &mut out).expect("there is such a row");
    out
}

#[test]
fn rows_come_back_within_the_rounding_of_their_kind() {
    for kind in Kind::ALL {
        for columns in [1, 31, 32, 33, 64, 96, 100] {
            let mut packed = Packed::zeroed(kind, ROWS, columns).expect("small");
            let weights = numbers(1).normal(ROWS * columns);
            for (index, weights) in weights.chunks(columns).enumerate().rev() {
                packed.set_row(index, weights).expect("fits");
            }
            for (index, weights) in weights.chunks(columns).enumerate() {
                for (block, got) in weights.chunks(32).zip(row(&packed, index).chunks(32)) {
                    let largest = block.iter().fold(0f32, |largest, w| largest.max(w.abs()));
                    let step = match kind {
                        Kind::F32 => 0.0,
                        Kind::Bf16 => largest / 256.0,
                        Kind::Q8 => largest / 127.0 * 0.57,
                        Kind::Q4 => 2.0 * largest / 15.0 * 0.52,
                    };
                    for (weight, got) in block.iter().zip(got) {
                        assert!(
                            (weight - got).abs() <= step,
                            "{kind:?} {columns}: {weight} {got}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn gguf_blocks_come_back_without_loss() {
    let mut numbers = numbers(2);
    let mut bytes = |count: usize, size: usize| -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..count * size).map(|_| numbers.next() as u8).collect();
        for block in bytes.chunks_mut(size) {
            // f16 between 2^-14 and 2^1, subnormals now and then.
            block[1] &= 0x3f;
            if size == Q4_1_BYTES {
                block[3] &= 0xbf;
            }
        }
        bytes
    };
    let half = |bytes: &[u8]| half_to_f32(u16::from_le_bytes([bytes[0], bytes[1]]));
    let columns = 96;
    for index in [0, 7, ROWS - 1] {
        let q8 = bytes(3, Q8_0_BYTES);
        let mut packed = Packed::zeroed(Kind::Q8, ROWS, columns).expect("small");
        packed.set_row_q8(index, &q8).expect("fits");
        let expected: Vec<f32> = { q8.chunks(Q8_0_BYTES) }
            .flat_map(|block| {
                block[2..]
                    .iter()
                    .map(move |q| half(block) * f32::from(*q as i8))
            })
            .collect();
        assert_eq!(row(&packed, index), expected);

        let q4 = bytes(3, Q4_0_BYTES);
        let mut packed = Packed::zeroed(Kind::Q4, ROWS, columns).expect("small");
        packed.set_row_q4_0(index, &q4).expect("fits");
        let nibble = |block: &[u8], k: usize| f32::from((block[k % 16] >> (k / 16 * 4)) & 15);
        let expected: Vec<f32> = { q4.chunks(Q4_0_BYTES) }
            .flat_map(|block| (0..32).map(move |k| half(block) * (nibble(&block[2..], k) - 8.0)))
            .collect();
        assert_eq!(row(&packed, index), expected);

        let q4 = bytes(3, Q4_1_BYTES);
        packed.set_row_q4_1(index, &q4).expect("fits");
        let expected: Vec<f32> = { q4.chunks(Q4_1_BYTES) }
            .flat_map(|block| {
                (0..32).map(move |k| half(block) * nibble(&block[4..], k) + half(&block[2..]))
            })
            .collect();
        assert_eq!(row(&packed, index), expected);
    }
    let mut packed = Packed::zeroed(Kind::Q4, 1, 32).expect("small");
    let mut block = [0xff; Q4_0_BYTES];
    block[..2].copy_from_slice(&0x7bff_u16.to_le_bytes());
    assert_eq!(
        packed.set_row_q4_0(0, &block),
        Err(KernelError::Scale { block: 0 })
    );
}

#[test]
fn packed_bytes_are_the_matrix() {
    for kind in Kind::ALL {
        let mut packed = Packed::zeroed(kind, ROWS, 70).expect("small");
        for index in 0..ROWS {
            packed
                .set_row(index, &numbers(index as u64).normal(70))
                .expect("fits");
        }
        assert_eq!(Some(packed.bytes()), kind.bytes(ROWS, 70));
        let copy = Packed::from_bytes(kind, ROWS, 70, packed.as_bytes()).expect("its own bytes");
        for index in 0..ROWS {
            assert_eq!(bits(&row(&copy, index)), bits(&row(&packed, index)));
        }
        let short = &packed.as_bytes()[1..];
        assert!(Packed::from_bytes(kind, ROWS, 70, short).is_err());
    }
}

#[test]
fn bf16_rows_are_taken_as_they_are() {
    let mut packed = Packed::zeroed(Kind::Bf16, 2, 3).expect("small");
    let halves: Vec<u8> = [0x3f80_u16, 0xc000, 0x0001]
        .iter()
        .flat_map(|half| half.to_le_bytes())
        .collect();
    packed.set_row_bf16(1, &halves).expect("fits");
    assert_eq!(row(&packed, 1), [1.0, -2.0, 0.0]);
}

/// Slowly, by the definition of binary16.
fn half_to_f32(half: u16) -> f32 {
    let (exponent, fraction) = (i32::from(half >> 10 & 31), f64::from(half & 1023) / 1024.0);
    let magnitude = match exponent {
        0 => fraction * 2f64.powi(-14),
        _ => (1.0 + fraction) * 2f64.powi(exponent - 15),
    };
    (if half >> 15 == 1 {
        -magnitude
    } else {
        magnitude
    }) as f32
}
