//! What does not fit is an error, never a panic.

use kernels::{
    Attend, AttendShape, KernelError, Kernels, Kind, KvCache, KvKind, KvShape, Packed, Path,
};

#[test]
fn matrices_of_hostile_shapes_are_refused() {
    for kind in Kind::ALL {
        for (rows, columns) in [
            (0, 1),
            (1, 0),
            (usize::MAX, 1),
            (1, usize::MAX),
            (usize::MAX, usize::MAX),
            (1 << 40, 1 << 20),
        ] {
            assert!(
                Packed::zeroed(kind, rows, columns).is_err(),
                "{rows} x {columns}"
            );
            assert!(Packed::from_bytes(kind, rows, columns, &[]).is_err());
        }
        let mut packed = Packed::zeroed(kind, 17, 33).expect("small");
        let mut out = [0.0; 33];
        assert_eq!(
            packed.row(17, &mut out),
            Err(KernelError::Shape {
                what: "row",
                got: 17
            })
        );
        assert!(packed.row(0, &mut out[1..]).is_err());
        assert!(packed.set_row(17, &[0.0; 33]).is_err());
        assert!(packed.set_row(usize::MAX, &[0.0; 33]).is_err());
        assert!(packed.set_row(0, &[0.0; 32]).is_err());
        assert!(packed.set_row_q8(0, &[0; 34]).is_err());
        assert!(packed.set_row_q4_0(0, &[0; 18]).is_err());
        assert!(packed.set_row_q4_1(0, &[0; 20]).is_err());
        assert!(packed.set_row_bf16(0, &[0; 65]).is_err());
    }
}

#[test]
fn products_that_do_not_fit_are_refused() {
    let kernels = Kernels::new(Path::Portable, 1).expect("portable");
    for kind in Kind::ALL {
        let weights = Packed::zeroed(kind, 5, 7).expect("small");
        assert_eq!(kernels.linear(&weights, &[], &mut []), Ok(()));
        assert!(kernels.linear(&weights, &[0.0; 8], &mut [0.0; 5]).is_err());
        assert!(kernels.linear(&weights, &[0.0; 14], &mut [0.0; 9]).is_err());
        assert!(kernels.linear(&weights, &[0.0; 14], &mut [0.0; 10]).is_ok());
    }
}

#[test]
fn rows_that_do_not_fit_are_refused() {
    let kernels = Kernels::new(Path::Portable, 1).expect("portable");
    assert!(kernels.rms_norm(&[], &[], 1e-5, &mut []).is_err());
    assert!(
        kernels
            .rms_norm(&[0.0; 5], &[0.0; 2], 1e-5, &mut [0.0; 5])
            .is_err()
    );
    assert!(
        kernels
            .rms_norm(&[0.0; 4], &[0.0; 2], 1e-5, &mut [0.0; 3])
            .is_err()
    );
    assert!(
        kernels
            .layer_norm(&[0.0; 4], &[0.0; 2], &[0.0; 1], 1e-5, &mut [0.0; 4])
            .is_err()
    );
    assert!(
        kernels
            .rope(&mut [0.0; 4], &[0.0; 1], &[0.0; 1], 1, 3)
            .is_err()
    );
    assert!(
        kernels
            .rope(&mut [0.0; 4], &[0.0; 1], &[0.0; 2], 1, 4)
            .is_err()
    );
    assert!(
        kernels
            .rope(&mut [0.0; 4], &[0.0; 2], &[0.0; 2], usize::MAX, 4)
            .is_err()
    );
    assert!(
        kernels
            .rope(&mut [0.0; 4], &[0.0; 2], &[0.0; 2], 0, 4)
            .is_err()
    );
    assert!(kernels.silu_mul(&mut [0.0; 4], &[0.0; 3]).is_err());
    assert!(kernels.add(&mut [0.0; 4], &[0.0; 5]).is_err());
    assert!(kernels.add_bias(&mut [0.0; 4], &[0.0; 3]).is_err());
    assert!(kernels.gelu(&mut []).is_ok());
}

#[test]
fn attention_that_does_not_fit_is_refused() {
    let kernels = Kernels::new(Path::Portable, 1).expect("portable");
    let shape = KvShape {
        kind: KvKind::F32,
        layers: 2,
        heads: 2,
        width: 4,
    };
    for (layers, heads, width, blocks) in [
        (0, 1, 1, 1),
        (1, 0, 1, 1),
        (1, 1, 0, 1),
        (1, 1, 513, 1),
        (1, 1, 1, 0),
        (usize::MAX, 2, 8, 1),
        (1, 1, 8, usize::MAX),
    ] {
        assert!(
            KvCache::zeroed(
                KvShape {
                    layers,
                    heads,
                    width,
                    ..shape
                },
                blocks
            )
            .is_err()
        );
    }
    let mut cache = KvCache::zeroed(shape, 3).expect("small");
    let eight = [0.0; 8];
    assert!(cache.write(2, 0, 0, &eight, &eight).is_err());
    assert!(cache.write(0, 3, 0, &eight, &eight).is_err());
    assert!(cache.write(0, 0, 32, &eight, &eight).is_err());
    assert!(cache.write(0, 0, 0, &eight[1..], &eight).is_err());
    assert!(cache.write(0, 0, 0, &eight, &eight[1..]).is_err());
    assert!(cache.copy_block(0, 3).is_err() && cache.clear_block(3).is_err());
    let attend = AttendShape {
        heads: 4,
        scale: 0.5,
        window: None,
        cap: None,
    };
    let job = Attend {
        blocks: &[2],
        position: 0,
        rows: 1,
    };
    let check = |layer, attend: AttendShape, job: Attend<'_>, length: usize| {
        let mut out = vec![0.0; length];
        kernels.attend(&cache, layer, &attend, &[job], &vec![0.0; length], &mut out)
    };
    assert_eq!(check(1, attend, job, 16), Ok(()));
    assert!(check(2, attend, job, 16).is_err());
    assert!(check(0, AttendShape { heads: 3, ..attend }, job, 12).is_err());
    assert!(check(0, AttendShape { heads: 0, ..attend }, job, 0).is_err());
    assert!(
        check(
            0,
            AttendShape {
                window: Some(0),
                ..attend
            },
            job,
            16
        )
        .is_err()
    );
    assert!(
        check(
            0,
            attend,
            Attend {
                blocks: &[3],
                ..job
            },
            16
        )
        .is_err()
    );
    assert!(
        check(
            0,
            attend,
            Attend {
                position: 32,
                ..job
            },
            16
        )
        .is_err()
    );
    assert!(
        check(
            0,
            attend,
            Attend {
                position: usize::MAX,
                ..job
            },
            16
        )
        .is_err()
    );
    assert!(
        check(
            0,
            attend,
            Attend {
                rows: usize::MAX,
                ..job
            },
            16
        )
        .is_err()
    );
    assert!(check(0, attend, Attend { rows: 2, ..job }, 16).is_err());
    let mut out = [0.0; 16];
    let mut all = |lengths: &[usize], heads, width| {
        let shape = AttendShape { heads, ..attend };
        kernels.attend_all(
            &[0.0; 16], &[0.0; 16], &[0.0; 16], lengths, &shape, width, &mut out,
        )
    };
    assert_eq!(all(&[2], 4, 2), Ok(()));
    assert!(all(&[1, 0, 1], 4, 2).is_err());
    assert!(all(&[3], 4, 2).is_err());
    assert!(all(&[2], 0, 2).is_err());
    assert!(all(&[2], 4, 0).is_err());
    assert!(all(&[usize::MAX, 2], 4, 2).is_err());
}

#[test]
fn a_pool_of_a_hostile_size_is_refused() {
    assert!(Kernels::new(Path::Portable, 0).is_err());
    assert!(Kernels::new(Path::Portable, usize::MAX).is_err());
}
