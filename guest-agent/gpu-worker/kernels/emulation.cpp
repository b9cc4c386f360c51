// An EMULATION of the kernels on the host, as a program for tests: `emulation KERNEL NUMBER...` reads its arrays from standard input,
// each with its length in bytes (u64) before it, and writes what the kernel changed to standard output.
#include "attention.cu"
#include "layer.cu"
#include "product.cu"
#include "sample.cu"
#include <string>

typedef std::vector<u8> Bytes;

static Bytes array() {
    u64 length = 0;
    if (fread(&length, 8, 1, stdin) != 1) exit(3);
    // Aligned as the device's memory is: a vector's bytes are.
    Bytes bytes(length);
    if (length && fread(bytes.data(), length, 1, stdin) != 1) exit(3);
    return bytes;
}
template <typename T> static T *in(Bytes &bytes) { return bytes.empty() ? nullptr : (T *)bytes.data(); }
static int out(const Bytes &bytes) { return fwrite(bytes.data(), 1, bytes.size(), stdout) == bytes.size() ? 0 : 4; }

static int products(const std::string &name, const std::vector<u64> &n) {
    Bytes numbers = array(), scales = array(), minima = array(), x = array(), bias = array(), sums = array();
    u32 outputs = n[0], columns = n[1], rows = n[2], add = n[3], tiles = n[4];
    auto run = [&](auto kernel) {
        Place3 grid = {(outputs + 15) / 16, (rows + 8 * tiles - 1) / (8 * tiles), 1};
        emulation::launch(grid, 256, [&] {
            kernel(in<u8>(numbers), in<u16>(scales), in<u16>(minima), in<u16>(x), in<float>(bias), in<float>(sums), outputs, columns,
                   rows, add);
        });
    };
#define OF(kind)                                                                                                                      \
    if (name == #kind) {                                                                                                              \
        if (tiles == 1) run(kind##_8);                                                                                                \
        if (tiles == 2) run(kind##_16);                                                                                               \
        if (tiles == 4) run(kind##_32);                                                                                               \
        if (tiles == 8) run(kind##_64);                                                                                               \
    }
    OF(product_bf16) OF(product_q8) OF(product_q4)
    return out(sums);
}

static int embeds(const std::string &name, const std::vector<u64> &n) {
    Bytes numbers = array(), scales = array(), minima = array(), tokens = array(), rows = array();
    auto run = [&](auto kernel) {
        emulation::launch({(u32)(tokens.size() / 4), 1, 1}, 64, [&] {
            kernel(in<u8>(numbers), in<u16>(scales), in<u16>(minima), in<u32>(tokens), in<float>(rows), n[0], n[1], 1.0f);
        });
    };
    if (name == "embed_bf16") run(embed_bf16);
    if (name == "embed_q8") run(embed_q8);
    if (name == "embed_q4") run(embed_q4);
    return out(rows);
}

// Norm, rotation, cache, attention and the join of `rows` rows of one sequence, as a layer does them between its products.
static int attention(const std::vector<u64> &n) {
    u32 key_heads = n[0], group = n[1], width = n[2], rows = n[3], window = n[4], parts = n[5], heads_all = key_heads * group;
    Bytes q = array(), k = array(), v = array(), q_norm = array(), cosines = array(), sines = array(), keys = array(), values = array();
    Bytes tables = array(), positions = array(), places = array(), mixed = array();
    float scale = 1.0f / sqrtf((float)width);
    auto turn = [&](Bytes &x, Bytes *cache, u32 count, bool is_value, float by) {
        emulation::launch({rows, count, 1}, 32, [&] {
            heads(in<float>(x), is_value ? nullptr : in<float>(q_norm), is_value ? nullptr : in<float>(cosines), in<float>(sines),
                  cache ? in<u16>(*cache) : nullptr, in<u32>(positions), in<u32>(places), count, width, 1e-6f, by);
        });
    };
    turn(q, nullptr, heads_all, false, scale);
    turn(k, &keys, key_heads, false, 1.0f);
    turn(v, &values, key_heads, true, 1.0f);
    std::vector<u32> sequences(rows);
    std::vector<float> scratch((u64)rows * heads_all * parts * (width + 2));
    emulation::launch({key_heads, rows, parts}, 32 * group, [&] {
        attend(in<float>(q), in<u16>(keys), in<u16>(values), in<u32>(tables), sequences.data(), in<u32>(positions), scratch.data(),
               key_heads, width, tables.size() / 4, parts, window);
    });
    emulation::launch({rows, heads_all, 1}, 32, [&] {
        join(scratch.data(), in<u32>(positions), in<u16>(mixed), heads_all, width, heads_all * width, parts, window);
    });
    return out(mixed) | out(keys) | out(values);
}

static int rows(const std::string &name, const std::vector<u64> &n) {
    u32 width = n[0], columns = n[1], count = n[2], gelu = n[3];
    Bytes x = array(), y = array(), weights = array(), result = array();
    emulation::launch({count, 1, 1}, 256, [&] {
        if (name == "rms_norm") rms_norm(in<float>(x), nullptr, in<float>(weights), in<u16>(result), width, columns, 1e-6f);
        if (name == "add_norm") add_norm(in<float>(x), in<float>(y), in<float>(weights), width, 1e-6f);
        if (name == "activate") activate(in<float>(x), in<float>(y), in<u16>(result), width, columns, gelu);
        if (name == "cap_scores") cap_scores(in<float>(x), (u64)width * count, 30.0f);
    });
    return out(x) | out(result);
}

// Chooses `steps` tokens, each from its own scores, by the options in the head of the input.
static int choices(const std::vector<u64> &n) {
    u32 vocabulary = n[0], steps = n[1];
    Bytes how = array(), scores = array(), bias = array(), counters = array(), classes = array(), allowed = array(), forbidden = array();
    Sampling sampling;
    if (how.size() != 48) return 3;
    memcpy((void *)&sampling, how.data(), 48);
    sampling.bias = in<float>(bias);
    sampling.counters = in<u32>(counters);
    sampling.classes = in<u16>(classes);
    sampling.allowed = in<u32>(allowed);
    sampling.kept = nullptr;
    std::vector<u32> weights(vocabulary);
    Bytes chosen(4 * steps);
    for (u32 step = 0; step < steps; step++) {
        sampling.step = step;
        emulation::launch({1, 1, 1}, 64, [&] {
            sample(in<float>(scores) + (u64)step * vocabulary, weights.data(), &sampling, in<u32>(forbidden), forbidden.size() / 4,
                   in<u32>(chosen) + step, vocabulary, vocabulary);
        });
    }
    return out(chosen);
}

int main(int count, char **words) {
    if (count < 2) return 2;
    std::string name = words[1];
    std::vector<u64> n(8);
    for (int i = 2; i < count && i < 10; i++) n[i - 2] = strtoull(words[i], nullptr, 10);
    if (name.rfind("product_", 0) == 0) return products(name, n);
    if (name.rfind("embed_", 0) == 0) return embeds(name, n);
    if (name == "attention") return attention(n);
    if (name == "sample") return choices(n);
    return rows(name, n);
}
