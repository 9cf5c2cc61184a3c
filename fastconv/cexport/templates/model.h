/* A network that fastconv wrote as C99. Every function may be called by any number of threads at once,
 * allocates nothing but in @name@_init, writes nothing to the standard streams, and returns a status;
 * where that is not @NAME@_OK, nothing was written. */
#ifndef @NAME@_H
#define @NAME@_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef @real@ @name@_real;
typedef struct @name@_model @name@_model;

enum @name@_status {
    @NAME@_OK = 0,
    @NAME@_NULL_POINTER = 1,    /* an argument that must not be NULL is */
    @NAME@_BAD_SIZE = 2,        /* a number of images or bytes is negative */
    @NAME@_BAD_THREADS = 3,     /* the number of threads is less than one */
    @NAME@_OVERFLOW = 4,        /* so many images or threads that memory cannot be addressed */
    @NAME@_SMALL_WORKSPACE = 5, /* the workspace is smaller than @name@_workspace_size says */
    @NAME@_NO_MEMORY = 6,       /* malloc failed */
    @NAME@_CANNOT_READ = 7,     /* the file of weights cannot be opened, or ends too early */
    @NAME@_BAD_WEIGHTS = 8      /* the file holds other weights, or damaged ones */
};

/* Values of an image. Arrays hold one image after the other, each C-contiguous. */
@sizes@

/* Make the model@from@. @name@_free releases it, and takes NULL as well. */
int @name@_init(@name@_model **model@path@);
void @name@_free(@name@_model *model);

/* The bytes of workspace that @name@_run needs for so many images and threads. So many images at a
 * time pass through the network that more than @NAME@_BLOCK need no more. */
#define @NAME@_BLOCK @block@
int @name@_workspace_size(int64_t images, int threads, int64_t *bytes);

/* Run the network. The workspace may have any alignment and content; no two calls at a time may have
 * the same, and it must not overlap the arrays. Compiled without OpenMP, one thread does it all; the
 * result is the same for any number of threads. */
int @name@_run(
    const @name@_model *model, int64_t images, @arguments@,
    void *workspace, int64_t workspace_bytes, int threads);

/* What a status means, in words. */
const char *@name@_status_text(int status);

#ifdef __cplusplus
}
#endif
#endif
