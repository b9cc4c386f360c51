/* A libtdx_attest.so.1 for tests. What it answers lies in DIRECTORY: `quote` and `report`. What it was given it writes there:
 * `asked` (report data), `extended` (events, one after the other) and `freed` (a byte for each quote). The first two bytes of report
 * data steer the answer. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint8_t *lent;

static uint32_t load(const char *name, uint8_t *bytes, uint32_t room)
{
    FILE *file = fopen(name, "rb");
    if (!file)
        return 0;
    uint32_t got = fread(bytes, 1, room, file);
    fclose(file);
    return got;
}

static void add(const char *name, const void *bytes, uint32_t length)
{
    FILE *file = fopen(name, "ab");
    if (!file || fwrite(bytes, 1, length, file) != length || fclose(file))
        abort();
}

uint32_t tdx_att_get_quote(const uint8_t *data, const uint8_t *keys, uint32_t keys_count, uint8_t *key, uint8_t **quote,
                           uint32_t *length, uint32_t flags)
{
    if (keys || keys_count || key || flags)
        return 2;
    add(DIRECTORY "/asked", data, 64);
    if (data[0] == 'c') /* this code */
        return data[1];
    if (data[0] == 'n') { /* no quote and a length */
        *length = 5000;
        return 0;
    }
    lent = malloc(1 << 16);
    if (!lent)
        return 3;
    memset(lent, 7, 1 << 16);
    uint32_t got = load(DIRECTORY "/quote", lent, 1 << 16);
    *quote = lent;
    /* one byte more than so many KiB, none, or the quote */
    *length = data[0] == 'k' ? data[1] * 1024u + 1 : data[0] == 'z' ? 0 : got;
    return 0;
}

uint32_t tdx_att_free_quote(uint8_t *quote)
{
    if (!quote || quote != lent)
        abort();
    free(quote);
    lent = NULL;
    add(DIRECTORY "/freed", "f", 1);
    return 0;
}

uint32_t tdx_att_get_report(const uint8_t *data, uint8_t *report)
{
    (void)data;
    return load(DIRECTORY "/report", report, 1024) ? 0 : 0x0a;
}

uint32_t tdx_att_extend(const uint8_t *event)
{
    add(DIRECTORY "/extended", event, 68);
    return event[12] == 'c' ? event[13] : 0;
}

uint32_t tdx_att_get_supported_att_key_ids(uint8_t *keys, uint32_t *count)
{
    (void)keys;
    *count = 1;
    return 0;
}
