"""Rectifiers of one value: act(v) = min(slope v where v <= 0 else v, top).

NaN stays NaN, and a slope of 0 makes 0 of minus infinity too.
"""

from cython cimport floating
from libc.math cimport INFINITY


cdef inline floating act(floating v, floating slope, floating top) noexcept nogil:
    cdef floating low = <floating> 0 if slope == 0 else v * slope
    cdef floating value = low if v <= 0 else v
    return top if value > top else value


cdef inline floating act_gradient(
    floating dy, floating v, floating slope, floating top,
) noexcept nogil:
    """dy act'(v), told from v or, for a slope of at least 0, from act(v)."""
    cdef floating low = <floating> 0 if slope == 0 else dy * slope
    cdef floating high = <floating> 0 if v >= top and top < INFINITY else dy
    return low if v <= 0 else high
