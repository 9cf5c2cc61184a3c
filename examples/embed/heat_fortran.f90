! The heat equation on a plane, by fastconv's functions for Fortran.
module heat_fortran
  use, intrinsic :: iso_c_binding
  use fastconv
  implicit none

contains

  ! u convolved with the kernel, of odd sizes, `steps` times and in place; zero is outside. `table`
  ! is the address of fastconv's functions.
  function heat(table, u, nx, ny, kernel, kx, ky, steps, threads) bind(c) result(status)
    type(c_ptr), value :: table
    integer(c_int64_t), value :: nx, ny, kx, ky
    real(c_double), target, intent(inout) :: u(nx, ny)
    real(c_double), target, intent(in) :: kernel(kx, ky)
    integer(c_int), value :: steps, threads
    integer(c_int) :: status

    type(fastconv_api), pointer :: api
    procedure(fastconv_describe), pointer :: describe
    procedure(fastconv_conv_forward), pointer :: conv_forward
    procedure(fastconv_conv_workspace), pointer :: conv_forward_workspace
    type(fastconv_array) :: x, y, w
    type(fastconv_conv) :: conv
    real(c_double), allocatable, target :: other(:, :)
    integer(c_int8_t), allocatable, target :: workspace(:)
    integer(c_int64_t) :: bytes
    integer :: step

    call c_f_pointer(table, api)
    call c_f_procpointer(api%describe, describe)
    call c_f_procpointer(api%conv_forward, conv_forward)
    call c_f_procpointer(api%conv_forward_workspace, conv_forward_workspace)

    ! u(nx, ny) is C's array [ny][nx]: the dimensions reversed, and nothing copied
    allocate(other(nx, ny))
    status = describe(x, c_loc(u), fastconv_float64, 4, [1_c_int64_t, 1_c_int64_t, ny, nx], &
                      fastconv_c_order)
    if (status /= fastconv_ok) return
    status = describe(y, c_loc(other), fastconv_float64, 4, [1_c_int64_t, 1_c_int64_t, ny, nx], &
                      fastconv_c_order)
    if (status /= fastconv_ok) return
    status = describe(w, c_loc(kernel), fastconv_float64, 4, [1_c_int64_t, 1_c_int64_t, ky, kx], &
                      fastconv_c_order)
    if (status /= fastconv_ok) return
    conv%before(1:2) = [ky / 2, kx / 2]
    conv%after = conv%before

    bytes = conv_forward_workspace(conv, x, w, y, threads)
    if (bytes < 0) then
      status = int(bytes, c_int)
      return
    end if
    allocate(workspace(bytes))
    do step = 1, steps
      status = conv_forward(conv, x, w, c_null_ptr, y, c_loc(workspace), bytes, threads)
      if (status /= fastconv_ok) return
      u = other
    end do
  end function
end module
