// What the kernels need of a GPU, and no more: threads in warps of 32, shuffles, a barrier, one matrix instruction, numbers of 16 bits.
// With EMULATION the host stands in for all of it (emulation.hpp): that finds faults of indexing and of formulas and proves nothing
// about a cubin. Compiled with --fmad=false: what is fused says so, so that one source has one rounding.
//
// No sum is atomic and no order depends on the launch: the bits of a row are its own.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#ifdef EMULATION
#include "emulation.hpp"
#else
#define KERNEL extern "C" __global__ void
#define DEVICE __device__ __forceinline__
#define SHARED __shared__

struct alignas(16) Four { u32 x, y, z, w; };

DEVICE void barrier() { __syncthreads(); }
DEVICE u32 shuffle_xor(u32 value, int lanes) { return __shfl_xor_sync(0xffffffffu, value, lanes); }
DEVICE u32 shuffle_from(u32 value, int lane) { return __shfl_sync(0xffffffffu, value, lane); }
DEVICE u32 bits_of(float value) { return __float_as_uint(value); }
DEVICE float float_of(u32 bits) { return __uint_as_float(bits); }
DEVICE float fused(float a, float b, float c) { return __fmaf_rn(a, b, c); }
DEVICE float root(float value) { return __fsqrt_rn(value); }
DEVICE u64 high_half(u64 a, u64 b) { return __umul64hi(a, b); }
DEVICE float from_f16(u16 bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}
// Two f32 as bf16, to the nearest; `low` in the low half.
DEVICE u32 pack_bf16(float low, float high) {
    u32 both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
}
// c += a * b: sixteen rows of A by eight columns of B over sixteen terms. PTX ISA, "Matrix Fragments for mma.m16n8k16".
DEVICE void mma(float (&c)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
#endif

DEVICE float shuffle_xor(float value, int lanes) { return float_of(shuffle_xor(bits_of(value), lanes)); }
DEVICE float from_bf16(u16 bits) { return float_of((u32)bits << 16); }
DEVICE u16 to_bf16(float value) { return (u16)pack_bf16(value, 0.0f); }
DEVICE float largest(float a, float b) { return a > b ? a : b; }

// The sum over a warp, in the same tree in every lane.
DEVICE float warp_sum(float value) {
    for (int lanes = 16; lanes > 0; lanes >>= 1) value += shuffle_xor(value, lanes);
    return value;
}

// The sum over a block of whole warps: each warp's, then the warps' in order.
DEVICE float block_sum(float value, float *of_warps) {
    value = warp_sum(value);
    if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = value;
    barrier();
    float sum = 0.0f;
    for (u32 warp = 0; warp < blockDim.x / 32; warp++) sum += of_warps[warp];
    barrier();
    return sum;
}

// e to the x by the polynomial that the CPU's kernels have: a relative error below 2e-7, no table, zero below -87.33654.
DEVICE float exponential(float x) {
    const float lowest = -87.33654f, highest = 88.0f, magic = 12582912.0f;
    float clamped = x < lowest ? lowest : x > highest ? highest : x;
    float shifted = fused(clamped, 1.44269504f, magic);
    float n = shifted - magic;
    float r = fused(n, -0.693359375f, clamped);
    r = fused(n, 2.12194440e-4f, r);
    float sum = 1.9875691e-4f;
    sum = fused(sum, r, 1.3981999e-3f);
    sum = fused(sum, r, 8.3334520e-3f);
    sum = fused(sum, r, 4.1665795e-2f);
    sum = fused(sum, r, 1.6666665e-1f);
    sum = fused(sum, r, 5.0e-1f);
    float mantissa = fused(sum, r * r, r) + 1.0f;
    float power = float_of((bits_of(shifted) - bits_of(magic) + 127u) << 23);
    return x < lowest ? 0.0f : mantissa * power;
}
