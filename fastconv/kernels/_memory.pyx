"""Memory that is lent to arrays, and comes back when none of them is left."""

from cpython.buffer cimport (
    PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.pythread cimport PyThread_get_thread_ident


cdef extern from "Python.h":
    int PyThreadState_SetAsyncExc(unsigned long thread, object exception)

cdef enum:
    LINE = 64

ALIGNMENT = LINE


cdef class Block:
    """The bytes of `storage` from its first whole cache line on, less ALIGNMENT of them.

    An array made of a block, and every view of it, holds the block. When the last one has gone,
    on whatever thread that was, the storage joins ``pool.returned``, and ``pool.collect()`` is
    called, if nobody has ``pool.lock``.
    """

    cdef Py_buffer buffer
    cdef object storage, pool

    def __cinit__(self, storage, pool):
        PyObject_GetBuffer(storage, &self.buffer, PyBUF_SIMPLE | PyBUF_WRITABLE)
        self.storage = storage
        self.pool = pool

    def __getbuffer__(self, Py_buffer* view, int flags):
        cdef size_t start = (<size_t> self.buffer.buf + LINE - 1) // LINE * LINE
        PyBuffer_FillInfo(view, self, <void*> start, self.buffer.len - LINE, False, flags)

    def __del__(self):
        PyBuffer_Release(&self.buffer)
        self.pool.returned.append(self.storage)
        if self.pool.lock.acquire(False):  # else who holds it, or the next one, will
            try:
                self.pool.collect()
            except BaseException as interruption:
                # Such as Ctrl-C, which Python would drop here: again, where it can be raised.
                PyThreadState_SetAsyncExc(PyThread_get_thread_ident(), type(interruption))
            finally:
                self.pool.lock.release()
