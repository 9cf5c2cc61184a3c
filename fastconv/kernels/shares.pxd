cdef extern from "shares.h" nogil:
    ctypedef struct Shares:
        pass
    void share_out(Shares* shares, Py_ssize_t tasks, int threads)
    Py_ssize_t share_take(Shares* shares, int thread)
