// What stands between products: norms, rotation and the cache of keys and values, activations.
#include "device.cuh"

// The factor of a norm by the root mean square of `width` numbers, of which each thread of the block has a part.
DEVICE float norm_factor(const float *x, u32 width, float epsilon, float *of_warps) {
    float squares = 0.0f;
    for (u32 at = threadIdx.x; at < width; at += blockDim.x) squares = fused(x[at], x[at], squares);
    return 1.0f / root(block_sum(squares, of_warps) / (float)width + epsilon);
}

// A block of 256 threads for each row, or for each that `some` names: x normed and weighted, as bf16 in rows of `columns` numbers, the
// rest of which stay zeros.
KERNEL rms_norm(const float *x, const u32 *some, const float *weights, u16 *out, u32 width, u32 columns, float epsilon) {
    SHARED float of_warps[32];
    const float *row = x + (u64)(some ? some[blockIdx.x] : blockIdx.x) * width;
    float factor = norm_factor(row, width, epsilon, of_warps);
    for (u32 at = threadIdx.x; at < width; at += blockDim.x)
        out[(u64)blockIdx.x * columns + at] = to_bf16(row[at] * factor * weights[at]);
}

// As rms_norm, and added to `x`: what families with a norm behind attention do.
KERNEL add_norm(float *x, const float *y, const float *weights, u32 width, float epsilon) {
    SHARED float of_warps[32];
    const float *row = y + (u64)blockIdx.x * width;
    float factor = norm_factor(row, width, epsilon, of_warps);
    for (u32 at = threadIdx.x; at < width; at += blockDim.x) x[(u64)blockIdx.x * width + at] += row[at] * factor * weights[at];
}

// A warp for each row and head: queries, keys or values of `heads` heads of `width` numbers, at most 256.
//
// With `norm` each head is normed first. With `cosines` its first half is turned with its second by the row's position; both tables
// have width / 2 numbers for each position. `scale` is applied last. Where `cache` is given, the head goes there as bf16, to
// [place / 32][head][place % 32][width], the place of a row being its block times 32 plus its token in that; else back to `x`.
KERNEL heads(float *x, const float *norm, const float *cosines, const float *sines, u16 *cache, const u32 *positions, const u32 *places,
             u32 heads, u32 width, float epsilon, float scale) {
    u32 row = blockIdx.x, head = blockIdx.y, lane = threadIdx.x, half = width / 2;
    float *mine = x + ((u64)row * heads + head) * width;
    float first[4], second[4];
    float squares = 0.0f;
    for (u32 i = 0, at = lane; at < half; i++, at += 32) {
        first[i] = mine[at];
        second[i] = mine[at + half];
        squares = fused(first[i], first[i], squares);
        squares = fused(second[i], second[i], squares);
    }
    float factor = norm ? 1.0f / root(warp_sum(squares) / (float)width + epsilon) : 1.0f;
    for (u32 i = 0, at = lane; at < half; i++, at += 32) {
        float a = first[i], b = second[i];
        if (norm) {
            a = a * factor * norm[at];
            b = b * factor * norm[at + half];
        }
        if (cosines) {
            u64 turn = (u64)positions[row] * half + at;
            float turned = a * cosines[turn] - b * sines[turn];
            b = b * cosines[turn] + a * sines[turn];
            a = turned;
        }
        a *= scale;
        b *= scale;
        if (cache) {
            u64 place = (((u64)(places[row] / 32) * heads + head) * 32 + places[row] % 32) * width;
            cache[place + at] = to_bf16(a);
            cache[place + at + half] = to_bf16(b);
        } else {
            mine[at] = a;
            mine[at + half] = b;
        }
    }
}

DEVICE float gelu_tanh(float x) {
    float inner = 0.7978845608f * fused(0.044715f * x * x, x, x);
    return x / (1.0f + exponential(-2.0f * inner));
}

// gate's activation times up, as bf16 in rows of `columns` numbers. gridDim.y blocks for each row; `gelu` chooses.
KERNEL activate(const float *gate, const float *up, u16 *out, u32 width, u32 columns, u32 gelu) {
    for (u32 at = blockIdx.y * blockDim.x + threadIdx.x; at < width; at += gridDim.y * blockDim.x) {
        u64 from = (u64)blockIdx.x * width + at;
        float x = gate[from];
        float active = gelu ? gelu_tanh(x) : x / (1.0f + exponential(-x));
        out[(u64)blockIdx.x * columns + at] = to_bf16(active * up[from]);
    }
}

// cap * tanh(score / cap) of each score.
KERNEL cap_scores(float *scores, u64 count, float cap) {
    for (u64 at = (u64)blockIdx.x * blockDim.x + threadIdx.x; at < count; at += (u64)gridDim.x * blockDim.x) {
        float twice = 2.0f * scores[at] / cap;
        twice = twice < -80.0f ? -80.0f : twice > 80.0f ? 80.0f : twice;
        scores[at] = cap * (1.0f - 2.0f / (1.0f + exponential(twice)));
    }
}
