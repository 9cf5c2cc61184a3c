/* Written by fastconv @version@. Needs C99 with its mathematics; with OpenMP, threads; with
 * @NAME@_USE_CBLAS, a CBLAS of the header @NAME@_CBLAS_HEADER, by default <cblas.h>. Compile with -O3
 * and for the processor's vectors, as by -march=native. */
#include "@name@.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
@includes@
#ifdef _OPENMP
#include <omp.h>
#endif

typedef @name@_real real;

@runtime@
@definitions@
struct @name@_model {
    const real *weights;
    real *plain, *transformed;
};

@load@
#define EACH INT64_C(@each@) /* values of an image in the workspace */
#define SCRATCH INT64_C(@scratch@)   /* values that a thread works in */
#define LINE 64              /* bytes, of a cache line */

static void run_images(
    const @name@_model *model, int64_t n, @arguments@, real *m, int threads)
{
    const real *const w = model->weights;
    real *const scratch = m + n * EACH;
@transformed@
    (void)w;
    (void)scratch;
@calls@
}

int @name@_workspace_size(int64_t images, int threads, int64_t *bytes)
{
    const int64_t most = BELOW(INT64_MAX, PTRDIFF_MAX) / (int64_t)sizeof(real) - LINE;
    if (!bytes) return @NAME@_NULL_POINTER;
    if (images < 0) return @NAME@_BAD_SIZE;
    if (threads < 1) return @NAME@_BAD_THREADS;
    if (images > most / @largest@) return @NAME@_OVERFLOW;
    if (SCRATCH && (int64_t)threads > (most - @NAME@_BLOCK * EACH) / ABOVE(SCRATCH, 1))
        return @NAME@_OVERFLOW;
    *bytes = (BELOW(images, @NAME@_BLOCK) * EACH + threads * SCRATCH) * (int64_t)sizeof(real) + LINE;
    return @NAME@_OK;
}

int @name@_run(
    const @name@_model *model, int64_t images, @arguments@,
    void *workspace, int64_t workspace_bytes, int threads)
{
    int64_t needed;
    if (!model || @nulls@ || !workspace) return @NAME@_NULL_POINTER;
    const int status = @name@_workspace_size(images, threads, &needed);
    if (status) return status;
    if (workspace_bytes < 0) return @NAME@_BAD_SIZE;
    if (workspace_bytes < needed) return @NAME@_SMALL_WORKSPACE;
    char *const bytes = (char *)workspace + (LINE - (uintptr_t)workspace % LINE) % LINE;
    real *const memory = (real *)(void *)bytes;
    for (int64_t done = 0; done < images; done += @NAME@_BLOCK) {
        const int64_t n = BELOW(images - done, @NAME@_BLOCK);
        run_images(model, n, @parts@, memory, threads);
    }
    return @NAME@_OK;
}

int @name@_init(@name@_model **model@path@)
{
    @name@_model *made;
    if (!model@null_path@) return @NAME@_NULL_POINTER;
    made = (@name@_model *)malloc(sizeof *made);
    if (!made) return @NAME@_NO_MEMORY;
    made->plain = made->transformed = NULL;
@set_weights@
@unpack@
    *model = made;
    return @NAME@_OK;
}

void @name@_free(@name@_model *model)
{
    if (!model) return;
@free@
    free(model->plain);
    free(model->transformed);
    free(model);
}

const char *@name@_status_text(int status)
{
    static const char *const texts[] = {
        "no error",
        "an argument is a null pointer",
        "a number of images or bytes is negative",
        "the number of threads is less than one",
        "more images or threads than memory can hold",
        "the workspace is too small",
        "out of memory",
        "the file of weights cannot be read, or ends too early",
        "the file does not hold the weights of this network, or is damaged",
    };
    const int known = status >= 0 && status < (int)(sizeof texts / sizeof texts[0]);
    return known ? texts[status] : "unknown status";
}
