"""Memory that is lent to arrays, and comes back when none of them is left."""

from cpython.buffer cimport (
    PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer,
)

cdef enum:
    LINE = 64

ALIGNMENT = LINE


cdef class Block:
    """The bytes of `storage` from its first whole cache line on, less ALIGNMENT of them.

    An array made of a block, and every view of it, holds the block. When the last one has gone,
    ``release(storage)`` is called, on whatever thread that was.
    """

    cdef Py_buffer buffer
    cdef object storage, release

    def __cinit__(self, storage, release):
        PyObject_GetBuffer(storage, &self.buffer, PyBUF_SIMPLE | PyBUF_WRITABLE)
        self.storage = storage
        self.release = release

    def __getbuffer__(self, Py_buffer* view, int flags):
        cdef size_t start = (<size_t> self.buffer.buf + LINE - 1) // LINE * LINE
        PyBuffer_FillInfo(view, self, <void*> start, self.buffer.len - LINE, False, flags)

    def __del__(self):
        PyBuffer_Release(&self.buffer)
        self.release(self.storage)
