/* Tasks shared out so that a thread meets what it wrote itself: every thread has a range of its own,
 * in the order of the tasks, and takes from the others' when that is done. What one operator leaves
 * in a core's cache, the next operator's tasks find there; a busy core is not waited for.
 */
#ifndef FASTCONV_SHARES_H
#define FASTCONV_SHARES_H

#include <stddef.h>

#ifndef _MSC_VER
#define FETCH_ADD(place) __atomic_fetch_add(place, 1, __ATOMIC_RELAXED)
#elif defined(_WIN64)
#include <intrin.h>
#define FETCH_ADD(place) _InterlockedExchangeAdd64(place, 1)
#else
#include <intrin.h>
#define FETCH_ADD(place) _InterlockedExchangeAdd((long *)(place), 1)
#endif

#define MOST_SHARES 64 /* more threads than that have ranges together */

typedef struct {
    ptrdiff_t next, end;
    char apart[64 - 2 * sizeof(ptrdiff_t)]; /* a cache line for each */
} Share;

typedef struct {
    int count;
    Share of[MOST_SHARES];
} Shares;

static inline void share_out(Shares *shares, ptrdiff_t tasks, int threads)
{
    const int count = threads < 1 ? 1 : threads < MOST_SHARES ? threads : MOST_SHARES;
    shares->count = count;
    for (int i = 0; i < count; i++) {
        shares->of[i].next = tasks / count * i + tasks % count * i / count;
        shares->of[i].end = tasks / count * (i + 1) + tasks % count * (i + 1) / count;
    }
}

/* A task that nobody has had; there is one for each of as many calls as there are tasks. */
static inline ptrdiff_t share_take(Shares *shares, int thread)
{
    for (int i = 0; i < shares->count; i++) {
        Share *share = &shares->of[(thread + i) % shares->count];
        const ptrdiff_t task = FETCH_ADD(&share->next);
        if (task < share->end) return task;
    }
    return -1;
}

#endif
