// Attention over keys and values in blocks of 32 tokens, query heads in groups that share a key head.
//
// A sequence is cut into parts of 256 tokens at fixed positions, a part into its blocks. Softmax runs through the blocks of a part in
// order, and the parts are joined in order: what a row gives depends on its position and its sequence and on nothing else.
#include "device.cuh"

constexpr u32 BLOCK = 32, PART = 256, WIDTH_MAX = 256, GROUP_MAX = 8;  // 16 would be 49,408 bytes of shared memory, above the 49,152 of a block
constexpr u32 EACH = WIDTH_MAX / 32; // numbers of a head in a lane at most
constexpr float NOTHING = -1e30f;

// A block of threads for key head blockIdx.x, row blockIdx.y and part blockIdx.z; a warp for each query head of the group. Keys and
// values lie in [block][key head][32][width] as bf16; the blocks of a row begin at tables[sequences[row] * table_blocks]. `scratch` gets for
// each row, head and part: the largest score, the sum of powers, and `width` weighted values.
KERNEL attend(const float *queries, const u16 *keys, const u16 *values, const u32 *tables, const u32 *sequences, const u32 *positions,
              float *scratch, u32 key_heads, u32 width, u32 table_blocks, u32 parts_max, u32 window) {
    SHARED u16 some_keys[BLOCK][WIDTH_MAX + 2];
    SHARED u16 some_values[BLOCK][WIDTH_MAX + 2];
    SHARED float query[GROUP_MAX][WIDTH_MAX];
    u32 key_head = blockIdx.x, row = blockIdx.y, part = blockIdx.z, position = positions[row];
    u32 oldest = window && position + 1 > window ? position + 1 - window : 0;
    if (part * PART > position || (part + 1) * PART <= oldest) return;
    u32 group = blockDim.x / 32, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    u32 head = key_head * group + warp;
    u64 of_row = (u64)row * key_heads * group + head;
    for (u32 at = lane; at < width; at += 32) query[warp][at] = queries[of_row * width + at];
    float top = NOTHING, sum = 0.0f, mixed[EACH] = {};
    for (u32 first = part * PART; first < (part + 1) * PART && first <= position; first += BLOCK) {
        if (first + BLOCK <= oldest) continue;
        u64 block = ((u64)tables[(u64)sequences[row] * table_blocks + first / BLOCK] * key_heads + key_head) * BLOCK * width;
        barrier();
        for (u32 at = threadIdx.x; at < BLOCK * width; at += blockDim.x) {
            some_keys[at / width][at % width] = keys[block + at];
            some_values[at / width][at % width] = values[block + at];
        }
        barrier();
        u32 token = first + lane;
        bool seen = token <= position && token >= oldest;
        float score = 0.0f;
        for (u32 at = 0; at < width; at++) score = fused(query[warp][at], from_bf16(some_keys[lane][at]), score);
        if (!seen) score = NOTHING;
        float highest = score;
        for (int lanes = 16; lanes > 0; lanes >>= 1) highest = largest(highest, shuffle_xor(highest, lanes));
        highest = largest(highest, top);
        float before = exponential(top - highest);
        float power = seen ? exponential(score - highest) : 0.0f;
        sum = fused(sum, before, warp_sum(power));
        for (u32 i = 0; i < EACH; i++) mixed[i] *= before;
        for (u32 other = 0; other < BLOCK; other++) {
            // A value that is not seen may be what an older sequence left there, infinite even.
            float weight = float_of(shuffle_from(bits_of(power), other));
            if (first + other > position || first + other < oldest) continue;
            for (u32 i = 0, at = lane; i < EACH; i++, at += 32)
                if (at < width) mixed[i] = fused(weight, from_bf16(some_values[other][at]), mixed[i]);
        }
        top = highest;
    }
    float *out = scratch + (of_row * parts_max + part) * (width + 2);
    if (lane == 0) {
        out[0] = top;
        out[1] = sum;
    }
    for (u32 i = 0, at = lane; i < EACH; i++, at += 32)
        if (at < width) out[2 + at] = mixed[i];
}

// A warp for each row and head: joins the parts, as bf16 in rows of `columns` numbers.
KERNEL join(const float *scratch, const u32 *positions, u16 *out, u32 heads, u32 width, u32 columns, u32 parts_max, u32 window) {
    u32 row = blockIdx.x, head = blockIdx.y, lane = threadIdx.x, position = positions[row];
    u32 oldest = window && position + 1 > window ? position + 1 - window : 0;
    const float *parts = scratch + ((u64)row * heads + head) * parts_max * (width + 2);
    float top = NOTHING, sum = 0.0f, mixed[EACH] = {};
    for (u32 part = oldest / PART; part <= position / PART; part++) {
        const float *one = parts + (u64)part * (width + 2);
        float highest = largest(top, one[0]);
        float before = exponential(top - highest), now = exponential(one[0] - highest);
        sum = fused(one[1], now, sum * before);
        for (u32 i = 0, at = lane; i < EACH; i++, at += 32)
            if (at < width) mixed[i] = fused(one[2 + at], now, mixed[i] * before);
        top = highest;
    }
    for (u32 i = 0, at = lane; i < EACH; i++, at += 32)
        if (at < width) out[(u64)row * columns + head * width + at] = to_bf16(mixed[i] / sum);
}
