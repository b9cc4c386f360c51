// Products with weights: out[n][m] = the sum over k of weights[m][k] * x[n][k], in single precision, of activations in bf16.
//
// One order of summation for every number of rows: a decoded token and a prompt's have the same bits, whatever is beside them. Eight
// warps share the columns, warp w taking steps w, w + 8, ...; within a step the matrix instruction's order; then the warps in order.
//
// Layouts, all without gaps; `columns` is a multiple of 128 and filled up with zeros, as are the outputs to a multiple of 16:
//   bf16  row after row.
//   q8    per row and 64 columns (two blocks of 32) 64 bytes: for t in 0..4 eight weights plus 128 of the first block from column 8t,
//         then eight of the second. A scale (f16) for each block.
//   q4    per row and 128 columns (four blocks) 64 bytes: for t in 0..4 and each block a word for the eight columns from 8t, column
//         2i in bits 4i, column 2i + 1 in bits 16 + 4i. Scale and minimum (f16) for each block.
#include "device.cuh"

enum Kind { BF16, Q8, Q4 };

struct Weights {
    const u8 *numbers;
    const u16 *scales;
    const u16 *minima;
};

constexpr int WARPS = 8;
constexpr u32 ONES = 0x3f803f80;

// Bytes `2 * pair` and the next of `word`, each less 128, as bf16, in which they are exact.
DEVICE u32 of_bytes(u32 word, int pair) {
    u32 two = word >> (16 * pair);
    float low = float_of(0x4b000000u | (two & 255u)) - 8388736.0f;
    float high = float_of(0x4b000000u | ((two >> 8) & 255u)) - 8388736.0f;
    return (bits_of(low) >> 16) | (bits_of(high) & 0xffff0000u);
}

// Columns `2 * pair` and the next of eight of q4, as bf16, in which they are exact.
DEVICE u32 of_nibbles(u32 word, int pair) {
    u32 two = word >> (4 * pair);
    float low = float_of(0x4b000000u | (two & 15u)) - 8388608.0f;
    float high = float_of(0x4b000000u | ((two >> 16) & 15u)) - 8388608.0f;
    return (bits_of(low) >> 16) | (bits_of(high) & 0xffff0000u);
}

// Thirty-two columns of sixteen rows by eight rows of x: `a` has a lane's eight weights of row g as four pairs, `b` those of row g + 8.
DEVICE void two_mma(float (&c)[4], const u32 (&a)[4], const u32 (&b)[4], Four x) {
    mma(c, a[0], b[0], a[1], b[1], x.x, x.y);
    mma(c, a[2], b[2], a[3], b[3], x.z, x.w);
}

template <Kind KIND, int TILES>
DEVICE void product(Weights weights, const u16 *x, const float *bias, float *out, u32 outputs, u32 columns, u32 rows, u32 add) {
    constexpr int BLOCKS = KIND == BF16 ? 1 : KIND == Q8 ? 2 : 4; // of 32 columns in a step, which are 16 bytes of a lane
    SHARED float parts[WARPS][16 * 8 * TILES];
    u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    u32 first_output = blockIdx.x * 16, first_row = blockIdx.y * 8 * TILES;
    float sums[TILES][4] = {};
    u32 steps = columns / (32 * BLOCKS), blocks = columns / 32;
    const Four *upper = (const Four *)weights.numbers + (u64)(first_output + g) * steps * 4 + t;
    const Four *lower = upper + (u64)8 * steps * 4;
    u64 upper_scale = (u64)(first_output + g) * blocks, lower_scale = upper_scale + (u64)8 * blocks;
    const Four *xs = (const Four *)(x + (u64)(first_row + g) * columns) + t;
    for (u32 step = warp; step < steps; step += WARPS) {
        Four above = upper[step * 4], below = lower[step * 4];
        const u32 words[2][4] = {{above.x, above.y, above.z, above.w}, {below.x, below.y, below.z, below.w}};
        for (int block = 0; block < BLOCKS; block++) {
            u32 a[2][4];
            for (int half = 0; half < 2; half++)
                for (int pair = 0; pair < 4; pair++) {
                    if (KIND == BF16) a[half][pair] = words[half][pair];
                    if (KIND == Q8) a[half][pair] = of_bytes(words[half][(2 * block + pair / 2) % 4], pair % 2);
                    if (KIND == Q4) a[half][pair] = of_nibbles(words[half][block], pair);
                }
            u32 at = step * BLOCKS + block;
            float scale[2], minimum[2];
            if (KIND != BF16) {
                scale[0] = from_f16(weights.scales[upper_scale + at]);
                scale[1] = from_f16(weights.scales[lower_scale + at]);
            }
            if (KIND == Q4) {
                minimum[0] = from_f16(weights.minima[upper_scale + at]);
                minimum[1] = from_f16(weights.minima[lower_scale + at]);
            }
            for (int tile = 0; tile < TILES; tile++) {
                Four b = xs[((u64)tile * 8 * columns) / 8 + at * 4];
                if (KIND == BF16) {
                    two_mma(sums[tile], a[0], a[1], b);
                    continue;
                }
                float part[4] = {}, of_x[4] = {};
                two_mma(part, a[0], a[1], b);
                if (KIND == Q4) {
                    const u32 ones[4] = {ONES, ONES, ONES, ONES};
                    two_mma(of_x, ones, ones, b);
                }
                for (int i = 0; i < 4; i++) {
                    sums[tile][i] = fused(scale[i / 2], part[i], sums[tile][i]);
                    if (KIND == Q4) sums[tile][i] = fused(minimum[i / 2], of_x[i], sums[tile][i]);
                }
            }
        }
    }
    for (int tile = 0; tile < TILES; tile++)
        for (int i = 0; i < 4; i++) {
            u32 m = g + 8 * (i / 2), n = tile * 8 + 2 * t + i % 2;
            parts[warp][n * 16 + m] = sums[tile][i];
        }
    barrier();
    for (u32 at = threadIdx.x; at < 16 * 8 * TILES; at += WARPS * 32) {
        u32 m = first_output + at % 16, n = first_row + at / 16;
        float sum = parts[0][at];
        for (int other = 1; other < WARPS; other++) sum += parts[other][at];
        if (m >= outputs || n >= rows) continue;
        if (bias) sum += bias[m];
        float *place = out + (u64)n * outputs + m;
        *place = add ? *place + sum : sum;
    }
}

// Blocks of 256 threads: one for 16 outputs and 8 * TILES rows. `x` has rows up to a whole number of those, any numbers there.
// `add` adds to what is in `out`.
#define PRODUCT(name, kind, tiles)                                                                                                    \
    KERNEL name(const u8 *numbers, const u16 *scales, const u16 *minima, const u16 *x, const float *bias, float *out, u32 outputs,     \
                u32 columns, u32 rows, u32 add) {                                                                                      \
        product<kind, tiles>(Weights{numbers, scales, minima}, x, bias, out, outputs, columns, rows, add);                             \
    }
#define PRODUCTS(name, kind) PRODUCT(name##_8, kind, 1) PRODUCT(name##_16, kind, 2) PRODUCT(name##_32, kind, 4) PRODUCT(name##_64, kind, 8)
PRODUCTS(product_bf16, BF16)
PRODUCTS(product_q8, Q8)
PRODUCTS(product_q4, Q4)

template <Kind KIND> DEVICE float weight(Weights weights, u32 columns, u32 row, u32 column) {
    u32 block = column / 32, t = column % 32 / 8, k = column % 8;
    u64 at = (u64)row * (columns / 32) + block;
    if (KIND == BF16) return from_bf16(((const u16 *)weights.numbers)[(u64)row * columns + column]);
    if (KIND == Q8) {
        u8 number = weights.numbers[(u64)row * columns + block / 2 * 64 + t * 16 + block % 2 * 8 + k];
        return from_f16(weights.scales[at]) * (float)((int)number - 128);
    }
    u32 word = ((const u32 *)weights.numbers)[(u64)row * columns / 8 + block / 4 * 16 + t * 4 + block % 4];
    u32 number = (word >> (k % 2 * 16 + k / 2 * 4)) & 15u;
    return fused(from_f16(weights.scales[at]), (float)number, from_f16(weights.minima[at]));
}

template <Kind KIND> DEVICE void embed(Weights weights, const u32 *tokens, float *out, u32 width, u32 columns, float scale) {
    for (u32 column = threadIdx.x; column < width; column += blockDim.x)
        out[(u64)blockIdx.x * width + column] = scale * weight<KIND>(weights, columns, tokens[blockIdx.x], column);
}

// A block for each token: its row of the table, in single precision. That nobody traces a GPU's addresses is assumed.
#define EMBED(name, kind)                                                                                                             \
    KERNEL name(const u8 *numbers, const u16 *scales, const u16 *minima, const u32 *tokens, float *out, u32 width, u32 columns,        \
                float scale) {                                                                                                         \
        embed<kind>(Weights{numbers, scales, minima}, tokens, out, width, columns, scale);                                             \
    }
EMBED(embed_bf16, BF16)
EMBED(embed_q8, Q8)
EMBED(embed_q4, Q4)
