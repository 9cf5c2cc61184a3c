"""The one door to SciPy's BLAS, in row-major terms."""

from cython cimport floating
from cython.parallel cimport prange
from scipy.linalg.cython_blas cimport dgemm, sgemm

from fastconv.kernels._blas_int cimport blas_int

cdef Py_ssize_t BLAS_INT_MAX = (<Py_ssize_t> 1 << (8 * sizeof(blas_int) - 2)) * 2 - 1
SIZE_MAX = BLAS_INT_MAX


cdef int gemm(
    bint trans_a, bint trans_b, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
    const floating* a, Py_ssize_t lda, const floating* b, Py_ssize_t ldb,
    floating beta, floating* c, Py_ssize_t ldc,
) noexcept nogil:
    """C := op(A).op(B) + beta * C, with op(A) m x k, op(B) k x n, all row-major.

    Returns 0, or -1 if a size does not fit BLAS's integer (nothing is then written).
    """
    # Row-major C = A.B is column-major C^T = B^T.A^T: the operands change places.
    cdef char op_a = b"T" if trans_a else b"N"
    cdef char op_b = b"T" if trans_b else b"N"
    cdef blas_int rows = <blas_int> m, cols = <blas_int> n, depth = <blas_int> k
    cdef blas_int step_a = <blas_int> lda, step_b = <blas_int> ldb, step_c = <blas_int> ldc
    cdef floating alpha = 1
    if max(max(m, n), k) > BLAS_INT_MAX or max(max(lda, ldb), ldc) > BLAS_INT_MAX:
        return -1
    if floating is float:
        sgemm(&op_b, &op_a, &cols, &rows, &depth, &alpha, <float*> b, &step_b,
              <float*> a, &step_a, &beta, c, &step_c)
    else:
        dgemm(&op_b, &op_a, &cols, &rows, &depth, &alpha, <double*> b, &step_b,
              <double*> a, &step_a, &beta, c, &step_c)
    return 0


def matmul(
    const floating[:, ::1] a,         # IN   (M, K), or (K, M) if trans_a
    const floating[:, ::1] b,         # IN   (K, N), or (N, K) if trans_b
    floating[:, ::1] c,               # OUT  (M, N)
    bint trans_a, bint trans_b,
    Py_ssize_t row_block, Py_ssize_t col_block,
    int n_threads,
):
    """C := op(A).op(B), cut into blocks of rows and columns of C."""
    cdef Py_ssize_t m = c.shape[0], n = c.shape[1]
    cdef Py_ssize_t k = a.shape[0] if trans_a else a.shape[1]
    cdef Py_ssize_t across = (n + col_block - 1) // col_block
    cdef Py_ssize_t tasks = across * ((m + row_block - 1) // row_block)
    cdef Py_ssize_t task, i, j
    cdef int failed = 0
    for task in prange(tasks, schedule="dynamic", nogil=True, num_threads=n_threads):
        i = task // across * row_block
        j = task % across * col_block
        failed |= -gemm(
            trans_a, trans_b, min(row_block, m - i), min(col_block, n - j), k,
            &a[0, i] if trans_a else &a[i, 0], a.shape[1],
            &b[j, 0] if trans_b else &b[0, j], b.shape[1],
            <floating> 0, &c[i, j], n)
    return failed
