! fastconv's functions for Fortran: the types of fastconv.h, and interfaces for its table, which a
! program in Python hands over as an address. docs/embedding.md has an example.
module fastconv
  use, intrinsic :: iso_c_binding, only: c_char, c_double, c_funptr, c_int, c_int32_t, c_int64_t, c_ptr
  implicit none
  private :: c_char, c_double, c_funptr, c_int, c_int32_t, c_int64_t, c_ptr

  integer(c_int), parameter :: fastconv_api_version = 1
  integer(c_int), parameter :: fastconv_ok = 0, fastconv_null_pointer = -1, &
    fastconv_bad_dtype = -2, fastconv_bad_ndim = -3, fastconv_bad_size = -4, &
    fastconv_overflow = -5, fastconv_bad_option = -6, fastconv_bad_geometry = -7, &
    fastconv_shape_mismatch = -8, fastconv_bad_strides = -9, fastconv_misaligned = -10, &
    fastconv_bad_threads = -11, fastconv_workspace_too_small = -12
  integer(c_int), parameter :: fastconv_float32 = 1, fastconv_float64 = 2, fastconv_int32 = 3
  integer(c_int), parameter :: fastconv_c_order = 0, fastconv_fortran_order = 1, &
    fastconv_channels_last = 2
  integer(c_int32_t), parameter :: fastconv_max = 0, fastconv_average = 1, fastconv_lp = 2

  type, bind(c) :: fastconv_array
    type(c_ptr) :: data
    integer(c_int32_t) :: dtype, ndim
    integer(c_int64_t) :: shape(5), strides(5)
  end type

  type, bind(c) :: fastconv_conv
    integer(c_int64_t) :: stride(3) = 1, before(3) = 0, after(3) = 0, dilation(3) = 1, groups = 1
  end type

  type, bind(c) :: fastconv_pool
    integer(c_int32_t) :: kind = fastconv_max, count_include_pad = 1
    real(c_double) :: power = 2
    integer(c_int64_t) :: kernel(3) = 1, stride(3) = 1, before(3) = 0, after(3) = 0, dilation(3) = 1
  end type

  type, bind(c) :: fastconv_api
    integer(c_int32_t) :: version, bytes
    type(c_funptr) :: status_text, describe, output_size
    type(c_funptr) :: conv_forward, conv_forward_workspace
    type(c_funptr) :: conv_backward_input, conv_backward_input_workspace
    type(c_funptr) :: conv_backward_weight, conv_backward_weight_workspace
    type(c_funptr) :: conv_backward_bias, conv_backward_bias_workspace
    type(c_funptr) :: im2col, im2col_workspace, col2im, col2im_workspace
    type(c_funptr) :: pool_forward, pool_forward_workspace
    type(c_funptr) :: pool_backward, pool_backward_workspace
    type(c_funptr) :: batch_norm_train, batch_norm_train_workspace
    type(c_funptr) :: batch_norm_infer, batch_norm_infer_workspace
    type(c_funptr) :: batch_norm_backward, batch_norm_backward_workspace
  end type

  ! What is an address of values, and may be null, is a type(c_ptr) by value.
  abstract interface
    function fastconv_describe(array, data, dtype, ndim, shape, order) bind(c) result(status)
      import
      type(fastconv_array), intent(inout) :: array
      type(c_ptr), value :: data
      integer(c_int), value :: dtype, ndim, order
      integer(c_int64_t), intent(in) :: shape(*)
      integer(c_int) :: status
    end function

    function fastconv_output_size(size, kernel, stride, before, after, dilation) bind(c) &
        result(pixels)
      import
      integer(c_int64_t), value :: size, kernel, stride, before, after, dilation
      integer(c_int64_t) :: pixels
    end function

    function fastconv_conv_forward(conv, x, w, bias, y, workspace, bytes, threads) bind(c) &
        result(status)
      import
      type(fastconv_conv), intent(in) :: conv
      type(fastconv_array), intent(in) :: x, w, y
      type(c_ptr), value :: bias, workspace
      integer(c_int64_t), value :: bytes
      integer(c_int), value :: threads
      integer(c_int) :: status
    end function

    ! conv_forward_workspace and, of dy, w, dx and of x, dy, dw, those of its gradients
    function fastconv_conv_workspace(conv, first, second, result_array, threads) bind(c) &
        result(bytes)
      import
      type(fastconv_conv), intent(in) :: conv
      type(fastconv_array), intent(in) :: first, second, result_array
      integer(c_int), value :: threads
      integer(c_int64_t) :: bytes
    end function

    ! conv_backward_input and conv_backward_weight
    function fastconv_conv_backward(conv, first, second, result_array, workspace, bytes, threads) &
        bind(c) result(status)
      import
      type(fastconv_conv), intent(in) :: conv
      type(fastconv_array), intent(in) :: first, second, result_array
      type(c_ptr), value :: workspace
      integer(c_int64_t), value :: bytes
      integer(c_int), value :: threads
      integer(c_int) :: status
    end function

    function fastconv_conv_backward_bias(dy, db, workspace, bytes, threads) bind(c) result(status)
      import
      type(fastconv_array), intent(in) :: dy
      type(c_ptr), value :: db, workspace
      integer(c_int64_t), value :: bytes
      integer(c_int), value :: threads
      integer(c_int) :: status
    end function

    function fastconv_conv_backward_bias_workspace(dy, threads) bind(c) result(bytes)
      import
      type(fastconv_array), intent(in) :: dy
      integer(c_int), value :: threads
      integer(c_int64_t) :: bytes
    end function

    ! im2col of x and cols, col2im of cols and x
    function fastconv_columns(conv, kernel, from, to, workspace, bytes, threads) bind(c) &
        result(status)
      import
      type(fastconv_conv), intent(in) :: conv
      integer(c_int64_t), intent(in) :: kernel(*)
      type(fastconv_array), intent(in) :: from, to
      type(c_ptr), value :: workspace
      integer(c_int64_t), value :: bytes
      integer(c_int), value :: threads
      integer(c_int) :: status
    end function

    function fastconv_columns_workspace(conv, kernel, from, to, threads) bind(c) result(bytes)
      import
      type(fastconv_conv), intent(in) :: conv
      integer(c_int64_t), intent(in) :: kernel(*)
      type(fastconv_array), intent(in) :: from, to
      integer(c_int), value :: threads
      integer(c_int64_t) :: bytes
    end function

    function fastconv_pool_forward(pool, x, y, index, workspace, bytes, threads) bind(c) &
        result(status)
      import
      type(fastconv_pool), intent(in) :: pool
      type(fastconv_array), intent(in) :: x, y
      type(fastconv_array), intent(in), optional :: index
      type(c_ptr), value :: workspace
      integer(c_int64_t), value :: bytes
      integer(c_int), value :: threads
      integer(c_int) :: status
    end function

    function fastconv_pool_forward_workspace(pool, x, y, index, threads) bind(c) result(bytes)
      import
      type(fastconv_pool), intent(in) :: pool
      type(fastconv_array), intent(in) :: x, y
      type(fastconv_array), intent(in), optional :: index
      integer(c_int), value :: threads
      integer(c_int64_t) :: bytes
    end function

    function fastconv_pool_backward(pool, x, y, index, dy, dx, workspace, bytes, threads) bind(c) &
        result(status)
      import
      type(fastconv_pool), intent(in) :: pool
      type(fastconv_array), intent(in), optional :: x, y, index
      type(fastconv_array), intent(in) :: dy, dx
      type(c_ptr), value :: workspace
      integer(c_int64_t), value :: bytes
      integer(c_int), value :: threads
      integer(c_int) :: status
    end function

    function fastconv_pool_backward_workspace(pool, x, y, index, dy, dx, threads) bind(c) &
        result(bytes)
      import
      type(fastconv_pool), intent(in) :: pool
      type(fastconv_array), intent(in), optional :: x, y, index
      type(fastconv_array), intent(in) :: dy, dx
      integer(c_int), value :: threads
      integer(c_int64_t) :: bytes
    end function

    function fastconv_batch_norm_train(x, weight, bias, running_mean, running_var, momentum, eps, &
        y, mean, inverse, workspace, bytes, threads) bind(c) result(status)
      import
      type(fastconv_array), intent(in) :: x, y
      type(c_ptr), value :: weight, bias, running_mean, running_var, workspace
      real(c_double), value :: momentum, eps
      real(c_double), intent(out) :: mean(*), inverse(*)
      integer(c_int64_t), value :: bytes
      integer(c_int), value :: threads
      integer(c_int) :: status
    end function

    function fastconv_batch_norm_infer(x, weight, bias, running_mean, running_var, eps, y, &
        workspace, bytes, threads) bind(c) result(status)
      import
      type(fastconv_array), intent(in) :: x, y
      type(c_ptr), value :: weight, bias, running_mean, running_var, workspace
      real(c_double), value :: eps
      integer(c_int64_t), value :: bytes
      integer(c_int), value :: threads
      integer(c_int) :: status
    end function

    ! batch_norm_train_workspace and batch_norm_infer_workspace
    function fastconv_batch_norm_workspace(x, y, threads) bind(c) result(bytes)
      import
      type(fastconv_array), intent(in) :: x, y
      integer(c_int), value :: threads
      integer(c_int64_t) :: bytes
    end function

    function fastconv_batch_norm_backward(x, dy, weight, mean, inverse, dx, dweight, dbias, &
        workspace, bytes, threads) bind(c) result(status)
      import
      type(fastconv_array), intent(in) :: x, dy
      type(fastconv_array), intent(in), optional :: dx
      type(c_ptr), value :: weight, dweight, dbias, workspace
      real(c_double), intent(in) :: mean(*), inverse(*)
      integer(c_int64_t), value :: bytes
      integer(c_int), value :: threads
      integer(c_int) :: status
    end function

    function fastconv_batch_norm_backward_workspace(x, dy, dx, threads) bind(c) result(bytes)
      import
      type(fastconv_array), intent(in) :: x, dy
      type(fastconv_array), intent(in), optional :: dx
      integer(c_int), value :: threads
      integer(c_int64_t) :: bytes
    end function

    function fastconv_status_text(status) bind(c) result(text)
      import
      integer(c_int), value :: status
      type(c_ptr) :: text
    end function
  end interface
end module
