// A host that stands in for a GPU, for tests: the threads of a block are fibers of one thread, which run from one meeting to the next.
// An EMULATION: it finds faults of indexing and of formulas. It proves nothing about a cubin, about speed, or about the order in which
// the matrix instruction rounds.
#pragma once
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <setjmp.h>
#include <ucontext.h>
#include <vector>

#define KERNEL static void
#define DEVICE static inline
#define SHARED static

struct alignas(16) Four { u32 x, y, z, w; };
struct Place3 { u32 x, y, z; };
static Place3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulation {
constexpr size_t STACK = 1 << 17;
struct Warp { u32 lanes[32][6]; };
// A fiber runs one thread of each block, block after block.
struct Fiber {
    ucontext_t first;
    jmp_buf here;
    bool started, done;
};
static jmp_buf scheduler;
static std::vector<Fiber *> fibers;
static std::vector<Warp> warps;
static std::function<void()> body;

static u32 waiting, passed;

// Lets every other thread run to its next meeting. Threads of a warp meet in step, since they take the same branches.
static void meet() {
    u32 mine = threadIdx.x;
    if (!_setjmp(fibers[mine]->here)) _longjmp(scheduler, 1);
    threadIdx.x = mine;
}
static void start() {
    for (;;) {
        body();
        fibers[threadIdx.x]->done = true;
        meet();
    }
}
static void resume(Fiber &fiber) {
    if (_setjmp(scheduler)) return;
    if (fiber.started) _longjmp(fiber.here, 1);
    fiber.started = true;
    setcontext(&fiber.first);
}
static void block(u32 threads) {
    warps.assign((threads + 31) / 32, {});
    for (u32 i = 0; i < threads; i++) fibers[i]->done = false;
    for (u32 left = threads; left > 0;) {
        left = 0;
        for (u32 i = 0; i < threads; i++) {
            if (fibers[i]->done) continue;
            threadIdx = {i, 0, 0};
            resume(*fibers[i]);
            left += !fibers[i]->done;
        }
    }
}
static void launch(Place3 grid, u32 threads, std::function<void()> kernel) {
    body = kernel;
    gridDim = grid;
    blockDim = {threads, 1, 1};
    while (fibers.size() < threads) {
        Fiber *fiber = new Fiber();
        getcontext(&fiber->first);
        fiber->first.uc_stack.ss_sp = malloc(STACK);
        fiber->first.uc_stack.ss_size = STACK;
        makecontext(&fiber->first, start, 0);
        fibers.push_back(fiber);
    }
    for (blockIdx.z = 0; blockIdx.z < grid.z; blockIdx.z++)
        for (blockIdx.y = 0; blockIdx.y < grid.y; blockIdx.y++)
            for (blockIdx.x = 0; blockIdx.x < grid.x; blockIdx.x++) block(threads);
}
}

DEVICE void barrier() {
    u32 before = emulation::passed;
    if (++emulation::waiting == blockDim.x) {
        emulation::waiting = 0;
        emulation::passed++;
    }
    while (emulation::passed == before) emulation::meet();
}
DEVICE u32 shuffle_from(u32 value, int lane) {
    emulation::Warp &warp = emulation::warps[threadIdx.x / 32];
    warp.lanes[threadIdx.x % 32][0] = value;
    emulation::meet();
    u32 got = warp.lanes[lane][0];
    emulation::meet();
    return got;
}
DEVICE u32 shuffle_xor(u32 value, int lanes) { return shuffle_from(value, (threadIdx.x % 32) ^ lanes); }
DEVICE u32 bits_of(float value) {
    u32 bits;
    memcpy(&bits, &value, 4);
    return bits;
}
DEVICE float float_of(u32 bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
DEVICE float fused(float a, float b, float c) { return fmaf(a, b, c); }
DEVICE float root(float value) { return sqrtf(value); }
DEVICE u64 high_half(u64 a, u64 b) { return (u64)((unsigned __int128)a * b >> 64); }
DEVICE float from_f16(u16 bits) {
    u32 exponent = (bits >> 10) & 31, fraction = bits & 1023;
    float magnitude = exponent == 0    ? ldexpf((float)fraction, -24)
                      : exponent == 31 ? (fraction ? NAN : INFINITY)
                                       : ldexpf((float)(fraction + 1024), (int)exponent - 25);
    return bits & 0x8000 ? -magnitude : magnitude;
}
DEVICE u32 rounded(float value) {
    u32 bits = bits_of(value);
    if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fff;
    return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}
DEVICE u32 pack_bf16(float low, float high) { return rounded(low) | rounded(high) << 16; }

// c += a * b, by the places of the fragments in PTX ISA, term after term.
DEVICE void mma(float (&c)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
    emulation::Warp &warp = emulation::warps[threadIdx.x / 32];
    u32 lane = threadIdx.x % 32;
    const u32 mine[6] = {a0, a1, a2, a3, b0, b1};
    memcpy(warp.lanes[lane], mine, sizeof mine);
    emulation::meet();
    auto number = [&](u32 from, u32 word, u32 odd) { return float_of((warp.lanes[from][word] >> 16 * odd) << 16); };
    for (u32 i = 0; i < 4; i++) {
        u32 row = lane / 4 + 8 * (i / 2), column = lane % 4 * 2 + i % 2;
        for (u32 k = 0; k < 16; k++) {
            float a = number(row % 8 * 4 + k % 8 / 2, row / 8 + 2 * (k / 8), k % 2);
            float b = number(column * 4 + k % 8 / 2, 4 + k / 8, k % 2);
            c[i] = fmaf(a, b, c[i]);
        }
    }
    emulation::meet();
}
