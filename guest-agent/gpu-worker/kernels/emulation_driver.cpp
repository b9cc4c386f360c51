// An EMULATION of the CUDA driver, `libcuda.so.1` for tests: the functions that the worker calls, over the host's memory, with the kernels
// of this directory executed by emulation.hpp. It finds faults of the host's side: arguments, grids, strides, lifetimes, captures. It
// proves nothing about a cubin, and takes for one what begins with the words below.
#include "attention.cu"
#include "layer.cu"
#include "product.cu"
#include "sample.cu"
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <sys/mman.h>
#include <tuple>

typedef int Result;
enum : Result { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_IMAGE = 200, INVALID_CONTEXT = 201, NOT_FOUND = 500, IN_CAPTURE = 900 };
typedef std::function<void()> Call;
// The arguments of a launch, copied as the driver copies them.
typedef std::function<Call(void **)> Kernel;
struct Launch { Place3 grid; u32 threads; Call call; };
typedef std::vector<Launch> Launches;

template <typename... A, size_t... I> static Kernel kernel_of(void (*f)(A...), std::index_sequence<I...>) {
    return [f](void **arguments) -> Call {
        std::tuple<A...> values{*(A *)arguments[I]...};
        return [f, values] { std::apply(f, values); };
    };
}
template <typename... A> static Kernel kernel_of(void (*f)(A...)) { return kernel_of(f, std::index_sequence_for<A...>()); }

#define NAMED(name) {#name, kernel_of(name)}
static std::map<std::string, Kernel> kernels = {
    NAMED(product_bf16_8), NAMED(product_bf16_16), NAMED(product_bf16_32), NAMED(product_bf16_64), NAMED(product_q8_8),
    NAMED(product_q8_16),  NAMED(product_q8_32),   NAMED(product_q8_64),   NAMED(product_q4_8),    NAMED(product_q4_16),
    NAMED(product_q4_32),  NAMED(product_q4_64),   NAMED(embed_bf16),      NAMED(embed_q8),        NAMED(embed_q4),
    NAMED(rms_norm),       NAMED(add_norm),        NAMED(heads),           NAMED(activate),        NAMED(cap_scores),
    NAMED(attend),         NAMED(join),            NAMED(sample),
};

static std::recursive_mutex mutex;
static thread_local bool entered;
static std::map<u64, u64> memory;                // address and bytes
static std::unique_ptr<Launches> captured;
static const u64 ALL = (u64)4 << 30, PAGE = 4096;

static bool within(u64 address, u64 bytes) {
    auto after = memory.upper_bound(address);
    if (after == memory.begin()) return false;
    auto found = std::prev(after);
    return address + bytes <= found->first + found->second;
}
static u64 taken() {
    u64 sum = 0;
    for (auto &one : memory) sum += one.second;
    return sum;
}
#define DRIVER(name, ...) extern "C" __attribute__((visibility("default"))) Result name(__VA_ARGS__)
#define LOCKED()                                                                                                                     \
    std::lock_guard<std::recursive_mutex> lock(mutex);                                                                               \
    if (!entered) return INVALID_CONTEXT

DRIVER(cuInit, unsigned) { return OK; }
DRIVER(cuDeviceGetCount, int *count) { return *count = 1, OK; }
DRIVER(cuDeviceGet, int *device, int) { return *device = 0, OK; }
DRIVER(cuDeviceGetName, char *name, int length, int) { return snprintf(name, length, "an emulation on the host"), OK; }
DRIVER(cuDevicePrimaryCtxRetain, void **context, int) { return *context = &memory, OK; }
DRIVER(cuCtxSetCurrent, void *context) { return entered = context == &memory, OK; }
DRIVER(cuStreamCreate, void **stream, unsigned) { return *stream = &captured, OK; }
DRIVER(cuGetErrorString, Result, const char **text) { return *text = "an error of the emulation", OK; }
DRIVER(cuMemGetInfo_v2, size_t *free, size_t *total) {
    LOCKED();
    *total = ALL;
    *free = ALL - taken();
    return OK;
}

// What is allocated ends where a page ends that nobody may touch, and is not zeros.
DRIVER(cuMemAlloc_v2, u64 *address, size_t bytes) {
    LOCKED();
    if (captured) return IN_CAPTURE;
    if (bytes == 0 || bytes > ALL - taken()) return OUT_OF_MEMORY;
    u64 size = (bytes + 15) / 16 * 16, pages = (size + PAGE - 1) / PAGE;
    u8 *mapped = (u8 *)mmap(nullptr, (pages + 1) * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED || mprotect(mapped + pages * PAGE, PAGE, PROT_NONE)) return OUT_OF_MEMORY;
    *address = (u64)(mapped + pages * PAGE - size);
    memory[*address] = bytes;
    memset((void *)*address, 0xff, bytes);
    return OK;
}
DRIVER(cuMemFree_v2, u64 address) {
    LOCKED();
    auto found = memory.find(address);
    if (found == memory.end()) return INVALID_VALUE;
    u64 pages = (found->second + PAGE - 1) / PAGE;
    munmap((void *)(address / PAGE * PAGE), (pages + 1) * PAGE);
    memory.erase(found);
    return OK;
}
DRIVER(cuMemsetD8Async, u64 address, u8 value, size_t bytes, void *) {
    LOCKED();
    if (captured) return IN_CAPTURE;
    if (!within(address, bytes)) return INVALID_VALUE;
    memset((void *)address, value, bytes);
    return OK;
}
DRIVER(cuMemcpyHtoDAsync_v2, u64 address, const void *from, size_t bytes, void *) {
    LOCKED();
    if (captured) return IN_CAPTURE;
    if (!within(address, bytes)) return INVALID_VALUE;
    memcpy((void *)address, from, bytes);
    return OK;
}
DRIVER(cuMemcpyDtoHAsync_v2, void *to, u64 address, size_t bytes, void *) {
    LOCKED();
    if (captured) return IN_CAPTURE;
    if (!within(address, bytes)) return INVALID_VALUE;
    memcpy(to, (void *)address, bytes);
    return OK;
}
DRIVER(cuStreamSynchronize, void *) {
    LOCKED();
    return captured ? IN_CAPTURE : OK;
}

DRIVER(cuModuleLoadData, void **module, const void *image) {
    LOCKED();
    const char *marker = "an emulation's image, and no cubin";
    if (strncmp((const char *)image, marker, strlen(marker))) return INVALID_IMAGE;
    return *module = &kernels, OK;
}
DRIVER(cuModuleGetFunction, void **function, void *, const char *name) {
    LOCKED();
    auto found = kernels.find(name);
    if (found == kernels.end()) return NOT_FOUND;
    return *function = &found->second, OK;
}
static void run(const Launch &launch) { emulation::launch(launch.grid, launch.threads, launch.call); }
DRIVER(cuLaunchKernel, void *function, u32 x, u32 y, u32 z, u32 threads, u32 two, u32 three, u32 shared, void *stream, void **arguments,
       void **extra) {
    LOCKED();
    bool fits = x && y && z && y < 65536 && z < 65536 && threads && threads <= 1024;
    if (!fits || two != 1 || three != 1 || shared || extra || stream != &captured) return INVALID_VALUE;
    Launch launch{{x, y, z}, threads, (*(Kernel *)function)(arguments)};
    if (captured) captured->push_back(launch);
    else run(launch);
    return OK;
}

DRIVER(cuStreamBeginCapture_v2, void *, int) {
    LOCKED();
    if (captured) return IN_CAPTURE;
    return captured.reset(new Launches()), OK;
}
DRIVER(cuStreamEndCapture, void *, void **graph) {
    LOCKED();
    if (!captured) return INVALID_VALUE;
    return *graph = captured.release(), OK;
}
DRIVER(cuGraphInstantiateWithFlags, void **made, void *graph, u64) {
    LOCKED();
    return *made = new Launches(*(Launches *)graph), OK;
}
DRIVER(cuGraphLaunch, void *graph, void *) {
    LOCKED();
    for (auto &launch : *(Launches *)graph) run(launch);
    return OK;
}
DRIVER(cuGraphDestroy, void *graph) { return delete (Launches *)graph, OK; }
DRIVER(cuGraphExecDestroy, void *graph) { return delete (Launches *)graph, OK; }
