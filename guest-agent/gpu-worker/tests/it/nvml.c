// A libnvidia-ml.so.1 that knows no GPU: whoever made it answers for one, over a socket at SOCKET.
// A question is one byte and the nonce; an answer is a code, a length and that many bytes.
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int whole(int fd, unsigned char *into, uint32_t length) {
    while (length > 0) {
        ssize_t got = read(fd, into, length);
        if (got <= 0) return 0;
        into += got;
        length -= got;
    }
    return 1;
}

static int ask(char question, const unsigned char *nonce, void *into, uint32_t room, uint32_t *length) {
    unsigned char asked[33] = {0};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    uint32_t head[2];
    int code = 999, fd = socket(AF_UNIX, SOCK_STREAM, 0);
    asked[0] = question;
    if (nonce) memcpy(asked + 1, nonce, 32);
    strncpy(address.sun_path, SOCKET, sizeof address.sun_path - 1);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0
        && write(fd, asked, sizeof asked) == sizeof asked
        && whole(fd, (unsigned char *)head, sizeof head)
        && head[1] <= room && whole(fd, into, head[1])) {
        code = head[0];
        if (length) *length = head[1];
    }
    close(fd);
    return code;
}

struct state { unsigned environment, feature, tools; };
struct certificates { unsigned chain_bytes, bytes; unsigned char chain[0x1000], text[0x1400]; };
struct report {
    unsigned has_cec, bytes, cec_bytes;
    unsigned char nonce[32], text[0x2000], cec[0x1000];
};

int nvmlInit_v2(void) { return ask('i', 0, 0, 0, 0); }
int nvmlDeviceGetCount_v2(unsigned *count) { return ask('c', 0, count, 4, 0); }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    *device = (void *)0x1001;
    return index == 0 ? 0 : 2;
}
int nvmlSystemGetConfComputeState(struct state *state) { return ask('s', 0, state, sizeof *state, 0); }
int nvmlSystemGetDriverVersion(char *text, unsigned room) { return ask('d', 0, text, room, 0); }
int nvmlDeviceGetVbiosVersion(void *device, char *text, unsigned room) {
    return device == (void *)0x1001 ? ask('v', 0, text, room, 0) : 2;
}
int nvmlDeviceGetConfComputeGpuCertificate(void *device, struct certificates *all) {
    return device == (void *)0x1001 ? ask('p', 0, all->text, sizeof all->text, &all->bytes) : 2;
}
int nvmlDeviceGetConfComputeGpuAttestationReport(void *device, struct report *all) {
    return device == (void *)0x1001 ? ask('r', all->nonce, all->text, sizeof all->text, &all->bytes) : 2;
}
int nvmlSystemSetConfComputeGpusReadyState(unsigned ready) { return ask(ready == 1 ? 'y' : 'n', 0, 0, 0, 0); }
