// The choice of a token by the rules of the CPU's sampler: whole numbers are summed, and what is not whole is computed in the same
// steps, none of them fused, so that the same scores give the same token.
#include "device.cuh"

// How one row's token is chosen; `step` tokens were chosen before. What is absent is null.
struct Sampling {
    u64 seed, step;
    float temperature, top_p, min_p, repetition, presence, frequency;
    u32 top_k, unused;
    const float *bias;   // for each token
    u32 *counters;       // for each token: the highest bit is the prompt's, the rest counts the completion's
    const u16 *classes;  // for each token its class of the grammar
    const u32 *allowed;  // a bit for each class
    float *kept;         // gets the scores before any option, forbidden tokens aside
};

constexpr float EXCLUDED = -3.40282347e38f;
constexpr u32 ONE = 1u << 30, NONE = 0xffffffffu, NOT_FINITE = 0xfffffffeu;

DEVICE u32 mix(u32 x) {
    x = (x ^ (x >> 16)) * 0x21f0aaadu;
    x = (x ^ (x >> 15)) * 0xd35a2d97u;
    return x ^ (x >> 15);
}

// SplitMix64 over seed and step.
DEVICE u64 chance(u64 seed, u64 step) {
    u64 z = seed + (step + 1) * 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

DEVICE float power_of(float x) {
    x = largest(x, -87.0f);
    const float round = 12582912.0f;
    float scaled = x * 1.44269504f + round;
    float whole = scaled - round;
    float rest = x - whole * 0.693359375f;
    rest = rest - whole * -2.12194440e-4f;
    float tail = 1.9875691e-4f;
    tail = tail * rest + 1.3982e-3f;
    tail = tail * rest + 8.333452e-3f;
    tail = tail * rest + 4.1665796e-2f;
    tail = tail * rest + 0.16666665f;
    tail = tail * rest + 0.5f;
    float power = tail * (rest * rest) + rest + 1.0f;
    return float_of(bits_of(power) + (bits_of(scaled) << 23));
}

DEVICE float logarithm(float x) {
    u32 bits = bits_of(x);
    int exponent = (int)(bits - 0x3f3504f3u) >> 23;
    float f = float_of(bits - ((u32)exponent << 23)) - 1.0f, e = (float)exponent;
    float square = f * f;
    float tail = 7.0376836e-2f;
    tail = tail * f + -0.1151461f;
    tail = tail * f + 0.11676999f;
    tail = tail * f + -0.12420141f;
    tail = tail * f + 0.14249323f;
    tail = tail * f + -0.16668058f;
    tail = tail * f + 0.20000714f;
    tail = tail * f + -0.24999994f;
    tail = tail * f + 0.3333333f;
    tail = tail * f * square;
    tail = tail + e * -2.12194440e-4f;
    tail = tail - square * 0.5f;
    return f + tail + e * 0.693359375f;
}

// -ln(1 - u) for u in (0, 1) of 32 random bits, by Kahan's method.
DEVICE float exponential_of(u32 bits) {
    float low = ((float)(bits & 255u) + 0.5f) * (1.0f / 256.0f);
    float u = ((float)(bits >> 8) + low) * (1.0f / 16777216.0f);
    float rest = largest(1.0f - u, 2.98023224e-8f);
    float lost = 1.0f - rest;
    return lost == 0.0f ? u : logarithm(rest) * u / lost * -1.0f;
}

// Scores in an order of whole numbers, the lowest token first among equals. Both zeros are one.
DEVICE u64 ranked(float score, u32 token) {
    u32 bits = bits_of(score + 0.0f);
    bits ^= (bits >> 31) ? 0x7fffffffu : 0u;
    return ((u64)(bits ^ 0x80000000u) << 32) | (u32)~token;
}
DEVICE float score_of(u64 rank) {
    u32 bits = (u32)(rank >> 32) ^ 0x80000000u;
    return float_of(bits ^ ((bits >> 31) ? 0x7fffffffu : 0u));
}

struct Block {
    u64 of_warps[32];
    u64 above[1024];
    u32 ties[1024];
};

// The largest or the sum of a number of each thread, in every thread.
template <bool SUM> DEVICE u64 over_block(u64 value, Block &block) {
    for (int lanes = 16; lanes > 0; lanes >>= 1) {
        u64 other = ((u64)shuffle_xor((u32)(value >> 32), lanes) << 32) | shuffle_xor((u32)value, lanes);
        value = SUM ? value + other : other > value ? other : value;
    }
    if (threadIdx.x % 32 == 0) block.of_warps[threadIdx.x / 32] = value;
    barrier();
    u64 all = 0;
    for (u32 warp = 0; warp < blockDim.x / 32; warp++) {
        u64 other = block.of_warps[warp];
        all = SUM ? all + other : other > all ? other : all;
    }
    barrier();
    return all;
}

DEVICE u64 tokens_from(const u32 *weights, u32 count, u32 least, Block &block) {
    u64 found = 0;
    for (u32 at = threadIdx.x; at < count; at += blockDim.x) found += weights[at] >= least;
    return over_block<true>(found, block);
}
DEVICE u64 mass_from(const u32 *weights, u32 count, u32 least, Block &block) {
    u64 mass = 0;
    for (u32 at = threadIdx.x; at < count; at += blockDim.x) mass += weights[at] >= least ? weights[at] : 0;
    return over_block<true>(mass, block);
}

// The largest number of 31 bits from which the tokens, or their mass, are at least `wanted`.
template <bool MASS> DEVICE u32 threshold(const u32 *weights, u32 count, u64 wanted, Block &block) {
    u32 found = 0;
    for (int bit = 30; bit >= 0; bit--) {
        u32 tried = found | (1u << bit);
        u64 there = MASS ? mass_from(weights, count, tried, block) : tokens_from(weights, count, tried, block);
        if (there >= wanted) found = tried;
    }
    return found;
}

DEVICE float adjusted(const Sampling &how, float score, u32 token) {
    if (how.bias) score = score + how.bias[token];
    if (how.counters) {
        u32 counter = how.counters[token], often = counter & 0x7fffffffu;
        if (counter) score = (int)bits_of(score) > 0 ? score / how.repetition : score * how.repetition;
        score = score - (float)often * how.frequency;
        score = score - (often ? how.presence : 0.0f);
    }
    return score;
}

// The token of weights: `least` and `ties` say which are considered, 64 random bits which of them it is.
DEVICE u32 draw(const u32 *weights, u32 count, u32 least, u32 ties, u64 bits, Block &block) {
    u32 span = (count + blockDim.x - 1) / blockDim.x, first = threadIdx.x * span;
    u64 above = 0;
    u32 equal = 0;
    for (u32 at = first; at < first + span && at < count; at++) {
        above += weights[at] > least ? weights[at] : 0;
        equal += weights[at] == least;
    }
    block.above[threadIdx.x] = above;
    block.ties[threadIdx.x] = equal;
    barrier();
    u32 chosen = NONE;
    if (threadIdx.x == 0) {
        u64 total = 0;
        u32 left = ties;
        for (u32 thread = 0; thread < blockDim.x; thread++) {
            u32 used = block.ties[thread] < left ? block.ties[thread] : left;
            total += block.above[thread] + (u64)used * least;
            left -= used;
        }
        u64 wanted = high_half(bits, total), passed = 0;
        left = ties;
        u32 at = 0;
        for (u32 thread = 0; thread < blockDim.x; thread++, at += span) {
            u32 used = block.ties[thread] < left ? block.ties[thread] : left;
            u64 mass = block.above[thread] + (u64)used * least;
            if (wanted < passed + mass) break;
            passed += mass;
            left -= used;
        }
        for (; at < count && chosen == NONE; at++) {
            bool tie = weights[at] == least && left > 0;
            left -= tie;
            passed += tie || weights[at] > least ? weights[at] : 0;
            if (wanted < passed) chosen = at;
        }
    }
    return chosen;
}

// A block of at most 1024 threads for each row; `scores` are changed, `weights` are as many numbers to compute in. `chosen` gets the
// token, or NOT_FINITE. `forbidden` are tokens that no completion holds.
KERNEL sample(float *scores, u32 *weights, const Sampling *samplings, const u32 *forbidden, u32 forbidden_count, u32 *chosen, u32 vocabulary,
              u32 stride) {
    SHARED Block block;
    const Sampling how = samplings[blockIdx.x];
    scores += (u64)blockIdx.x * stride;
    weights += (u64)blockIdx.x * stride;
    for (u32 at = threadIdx.x; at < forbidden_count; at += blockDim.x)
        if (forbidden[at] < vocabulary) scores[forbidden[at]] = -1e30f;
    barrier();
    u64 best = 0, bad = 0;
    for (u32 token = threadIdx.x; token < vocabulary; token += blockDim.x) {
        if (how.kept) how.kept[token] = scores[token];
        float score = adjusted(how, scores[token], token);
        bad |= (bits_of(score) & 0x7f800000u) == 0x7f800000u;
        u32 of_class = how.classes ? how.classes[token] : 0;
        if (how.classes && !((how.allowed[of_class / 32] >> of_class % 32) & 1)) score = EXCLUDED;
        scores[token] = score;
        u64 rank = ranked(score, token);
        best = rank > best ? rank : best;
    }
    best = over_block<false>(best, block);
    bad = over_block<false>(bad, block);
    u32 token = ~(u32)best;
    u64 bits = chance(how.seed, how.step);
    float inverse = 1.0f / how.temperature;
    if (how.temperature < 1.0f / 16384.0f) {
        // The best it is.
    } else if (how.top_k == 0 && how.top_p == 1.0f && how.min_p == 0.0f) {
        u32 low = (u32)bits, high = (u32)(bits >> 32);
        u64 noisy = 0;
        for (u32 at = threadIdx.x; at < vocabulary; at += blockDim.x) {
            u32 noise = mix(mix((at + low) * 0x9e3779b9u + high) ^ low);
            u64 rank = ranked(scores[at] * inverse - logarithm(exponential_of(noise)), at);
            noisy = rank > noisy ? rank : noisy;
        }
        token = ~(u32)over_block<false>(noisy, block);
    } else {
        float top = score_of(best);
        for (u32 at = threadIdx.x; at < vocabulary; at += blockDim.x)
            weights[at] = (u32)(power_of((scores[at] - top) * inverse) * 1073741824.0f + 0.5f);
        barrier();
        u32 least = 0, ties = NONE;
        if (how.top_k) {
            least = threshold<false>(weights, vocabulary, how.top_k, block);
            ties = how.top_k - (u32)tokens_from(weights, vocabulary, least + 1, block);
        }
        if (how.top_p < 1.0f) {
            u64 all = mass_from(weights, vocabulary, least + 1, block) + (u64)least * ties;
            u64 share = (u64)((double)how.top_p * 4294967296.0);
            u64 low = all * share, raised = low + 0xffffffffu;
            u64 nucleus = ((high_half(all, share) + (raised < low)) << 32) | (raised >> 32);
            nucleus = nucleus ? nucleus : 1;
            least = threshold<true>(weights, vocabulary, nucleus, block);
            u64 rest = nucleus - mass_from(weights, vocabulary, least + 1, block);
            ties = 0;
            for (int bit = 20; bit >= 0; bit--) {
                u32 more = ties + (1u << bit);
                if ((u64)more * least < rest) ties = more;
            }
            ties++;
        }
        double exact = (double)how.min_p * (double)ONE;
        u32 enough = (u32)exact + ((double)(u32)exact < exact);
        if (least < enough) {
            least = enough;
            ties = NONE;
        }
        token = draw(weights, vocabulary, least, ties, bits, block);
    }
    if (threadIdx.x == 0) {
        chosen[blockIdx.x] = bad ? NOT_FINITE : token;
        if (!bad && how.counters && token < vocabulary) how.counters[token]++;
    }
}
