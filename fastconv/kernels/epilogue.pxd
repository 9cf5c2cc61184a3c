from cython cimport floating
from libc.math cimport INFINITY

cdef extern from "epilogue.h" nogil:
    ctypedef struct Epilogue:
        bint add
        bint act
        bint cut
        Py_ssize_t residual
        double slope
        double top


cdef inline Epilogue read_epilogue(
    const floating[:, :, :, :, ::1] y, const floating[:, :, :, :, ::1] residual, double slope,
    double top,
) noexcept:
    """That of a `residual` of y's shape, or None, and an activation."""
    cdef Epilogue epilogue
    epilogue.add = residual is not None
    epilogue.cut = top != INFINITY
    epilogue.act = slope != 1 or epilogue.cut
    epilogue.residual = 0
    if epilogue.add:
        epilogue.residual = (
            <const char*> &residual[0, 0, 0, 0, 0] - <const char*> &y[0, 0, 0, 0, 0])
    epilogue.slope, epilogue.top = slope, top
    return epilogue
