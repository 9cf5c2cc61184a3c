cdef struct Process:
    # Of C's functions, which have no Python to ask fastconv._threads.
    bint went_parallel
    bint forked  # by a process that had


cdef Process* process() noexcept nogil
