//! Every operation of every path against what it says.

use super::*;

struct Check;

const INTS: [[u32; LANES]; 2] = [
    [
        0,
        1,
        2,
        3,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_ffff,
        7,
        8,
        15,
        16,
        31,
        32,
        0x1234_5678,
        0xdead_beef,
        5,
    ],
    [
        0,
        2,
        1,
        3,
        0x8000_0000,
        0x7fff_ffff,
        0xffff_fffe,
        30,
        9,
        15,
        1,
        0,
        31,
        0x8765_4321,
        0x0bad_cafe,
        6,
    ],
];
const FLOATS: [[f32; LANES]; 2] = [
    [
        0.0, -0.0, 1.5, -1.5, 1e30, -1e30, 3.25, 0.1, 7.0, 8.0, -9.0, 1e-30, 65536.5, -65536.5,
        1e9, 0.5,
    ],
    [
        0.5, 0.25, 1.5, -2.5, 1e29, -1e31, 3.0, 0.2, -7.0, 8.5, -9.5, 1e-20, 3.0, 5.0, 7.0, -0.5,
    ],
];

impl Pass for Check {
    type Output = Vec<[u32; LANES]>;

    fn run<W: Wide>(self) -> Self::Output {
        let [a, b] = INTS.map(|ints| W::load(&ints));
        let [x, y] = FLOATS.map(|floats| W::load_floats(&floats));
        let small = W::and(a, W::splat(15));
        let unit = W::mul_floats(W::to_floats(small), W::splat_float(0.75));
        let mut stored = [0.0; LANES];
        W::store_floats(W::add_floats(x, W::splat_float(1.0)), &mut stored);
        let ints = [
            W::add(a, b),
            W::sub(a, b),
            W::mul(a, b),
            W::and(a, b),
            W::or(a, b),
            W::xor(a, b),
            W::shift_left::<5>(a),
            W::shift_right::<5>(a),
            W::shift_right_signed::<5>(a),
            W::shift_right_each(a, W::and(b, W::splat(31))),
            W::look_up(b, small),
            W::select(W::equal(a, b), W::splat(1), W::splat(2)),
            W::keep(W::greater(a, b), a),
            W::keep(W::both(W::greater(a, b), W::greater(a, W::splat(1))), a),
            W::keep(W::either(W::greater(a, b), W::equal(a, W::splat(1))), a),
            W::bits(W::add_floats(x, y)),
            W::bits(W::sub_floats(x, y)),
            W::bits(W::mul_floats(x, y)),
            W::bits(W::div_floats(x, y)),
            W::bits(W::max_floats(x, y)),
            W::bits(W::to_floats(a)),
            W::truncate(unit),
            W::bits(W::floats(W::count())),
        ];
        let mut found = ints.map(W::lanes).to_vec();
        found.push(stored.map(f32::to_bits));
        found
    }
}

fn expected() -> Vec<[u32; LANES]> {
    let ints =
        |f: &dyn Fn(u32, u32) -> u32| std::array::from_fn(|lane| f(INTS[0][lane], INTS[1][lane]));
    let floats = |f: &dyn Fn(f32, f32) -> f32| {
        std::array::from_fn(|lane| f(FLOATS[0][lane], FLOATS[1][lane]).to_bits())
    };
    let greater = |a: u32, b: u32| a as i32 > b as i32;
    vec![
        ints(&u32::wrapping_add),
        ints(&u32::wrapping_sub),
        ints(&u32::wrapping_mul),
        ints(&|a, b| a & b),
        ints(&|a, b| a | b),
        ints(&|a, b| a ^ b),
        ints(&|a, _| a << 5),
        ints(&|a, _| a >> 5),
        ints(&|a, _| (a as i32 >> 5) as u32),
        ints(&|a, b| a >> (b & 31)),
        ints(&|a, _| INTS[1][(a & 15) as usize]),
        ints(&|a, b| if a == b { 1 } else { 2 }),
        ints(&|a, b| if greater(a, b) { a } else { 0 }),
        ints(&|a, b| if greater(a, b) && greater(a, 1) { a } else { 0 }),
        ints(&|a, b| if greater(a, b) || a == 1 { a } else { 0 }),
        floats(&|x, y| x + y),
        floats(&|x, y| x - y),
        floats(&|x, y| x * y),
        floats(&|x, y| x / y),
        floats(&|x, y| if x > y { x } else { y }),
        ints(&|a, _| (a as i32 as f32).to_bits()),
        ints(&|a, _| ((a & 15) as f32 * 0.75) as u32),
        std::array::from_fn(|lane| lane as u32),
        floats(&|x, _| x + 1.0),
    ]
}

#[test]
fn every_path_computes_what_is_written() {
    for path in Path::ALL.into_iter().filter(|path| path.is_here()) {
        for (number, (found, expected)) in pass(path, Check).iter().zip(expected()).enumerate() {
            assert_eq!(*found, expected, "{path:?}, operation {number}");
        }
    }
}
