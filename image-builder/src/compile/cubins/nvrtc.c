/* Compiles one CUDA source to machine code for one GPU: `nvrtc FILE.cu FILE.cubin`. NVRTC's log goes to stderr.
   Linked with libnvrtc, whose interface (nvrtc.h of CUDA 12.4) is declared here as far as it is used. */
#include <stdio.h>
#include <stdlib.h>

typedef struct _nvrtcProgram *nvrtcProgram;
int nvrtcCreateProgram(nvrtcProgram *, const char *source, const char *name, int, const char *const *, const char *const *);
int nvrtcCompileProgram(nvrtcProgram, int count, const char *const *options);
int nvrtcGetProgramLogSize(nvrtcProgram, size_t *);
int nvrtcGetProgramLog(nvrtcProgram, char *);
int nvrtcGetCUBINSize(nvrtcProgram, size_t *);
int nvrtcGetCUBIN(nvrtcProgram, char *);

/* No product is fused with a sum unless the source says so: what a kernel computes is what an emulation of it does. */
static const char *const OPTIONS[] = {"--gpu-architecture=sm_90a", "--std=c++17", "--fmad=false", "--include-path=."};

static void failed(const char *doing) {
    fprintf(stderr, "%s failed\n", doing);
    exit(1);
}

static char *memory(size_t bytes) {
    char *memory = calloc(bytes + 1, 1);
    if (!memory) failed("allocating memory");
    return memory;
}

static char *read(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END)) failed("opening the source");
    long bytes = ftell(file);
    if (bytes < 0 || fseek(file, 0, SEEK_SET)) failed("reading the source");
    char *text = memory(bytes);
    if (fread(text, 1, bytes, file) != (size_t)bytes) failed("reading the source");
    fclose(file);
    return text;
}

int main(int count, char **words) {
    nvrtcProgram program;
    size_t bytes;
    if (count != 3) failed("being called with a source and a result");
    if (nvrtcCreateProgram(&program, read(words[1]), words[1], 0, NULL, NULL)) failed("nvrtcCreateProgram");
    int compiled = nvrtcCompileProgram(program, sizeof OPTIONS / sizeof *OPTIONS, OPTIONS);
    if (nvrtcGetProgramLogSize(program, &bytes)) failed("nvrtcGetProgramLogSize");
    char *log = memory(bytes);
    if (nvrtcGetProgramLog(program, log)) failed("nvrtcGetProgramLog");
    fputs(log, stderr);
    if (compiled) return 1;
    if (nvrtcGetCUBINSize(program, &bytes)) failed("nvrtcGetCUBINSize");
    char *code = memory(bytes);
    if (nvrtcGetCUBIN(program, code)) failed("nvrtcGetCUBIN");
    FILE *file = fopen(words[2], "wb");
    if (!file || fwrite(code, 1, bytes, file) != bytes || fclose(file)) failed("writing the result");
    return 0;
}
