/* Preloaded into the tools of the second build: a calendar that is four years ahead. Intervals are as they were. No library is
   needed, so that it loads beside any. */

struct moment { long seconds, part; };

static const long AHEAD = 4 * 365 * 24 * 3600L;

static long ask(long number, long first, void *second)
{
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "0"(number), "D"(first), "S"(second) : "rcx", "r11", "memory");
    return result;
}

/* CLOCK_REALTIME, CLOCK_REALTIME_COARSE and CLOCK_TAI tell the date. */
int clock_gettime(int clock, struct moment *now)
{
    if (ask(228, clock, now) != 0)
        return -1;
    if (clock == 0 || clock == 5 || clock == 11)
        now->seconds += AHEAD;
    return 0;
}

int gettimeofday(struct moment *now, void *zone)
{
    if (ask(96, (long)now, zone) != 0)
        return -1;
    if (now)
        now->seconds += AHEAD;
    return 0;
}

long time(long *place)
{
    struct moment now;
    clock_gettime(0, &now);
    if (place)
        *place = now.seconds;
    return now.seconds;
}

int timespec_get(struct moment *now, int base)
{
    return base == 1 && clock_gettime(0, now) == 0 ? base : 0;
}
