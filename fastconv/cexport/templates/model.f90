! The interface of @name@.h. Arrays have C's axes in reverse, so an image that is (channels, height,
! width) in C is (width, height, channels) here, and the number of images is the last axis.
module @name@
  use, intrinsic :: iso_c_binding
  implicit none

  integer, parameter :: @name@_real = @kind@
  integer(c_int), parameter :: @name@_ok = 0, @name@_null_pointer = 1, @name@_bad_size = 2, &
    @name@_bad_threads = 3, @name@_overflow = 4, @name@_small_workspace = 5, @name@_no_memory = 6, &
    @name@_cannot_read = 7, @name@_bad_weights = 8
  ! values of an image, and how many images pass through the network at a time
@sizes@
  integer(c_int64_t), parameter :: @name@_block = @block@

  interface
    integer(c_int) function @name@_init(model@path_name@) bind(C, name="@name@_init")
      import :: c_int, c_ptr, c_char
      type(c_ptr), intent(out) :: model
@path_type@    end function

    subroutine @name@_free(model) bind(C, name="@name@_free")
      import :: c_ptr
      type(c_ptr), value :: model
    end subroutine

    integer(c_int) function @name@_workspace_size(images, threads, bytes) &
        bind(C, name="@name@_workspace_size")
      import :: c_int, c_int64_t
      integer(c_int64_t), value :: images
      integer(c_int), value :: threads
      integer(c_int64_t), intent(inout) :: bytes
    end function

    integer(c_int) function @name@_run(model, images, @names@, &
        workspace, workspace_bytes, threads) bind(C, name="@name@_run")
      import :: c_int, c_int64_t, c_int8_t, c_ptr, @name@_real
      type(c_ptr), value :: model
      integer(c_int64_t), value :: images, workspace_bytes
@types@
      integer(c_int8_t), intent(inout) :: workspace(*)
      integer(c_int), value :: threads
    end function

    type(c_ptr) function @name@_c_status_text(status) bind(C, name="@name@_status_text")
      import :: c_int, c_ptr
      integer(c_int), value :: status
    end function
  end interface

contains

  ! What a status means, in words.
  function @name@_status_text(status) result(text)
    integer(c_int), intent(in) :: status
    character(:), allocatable :: text
    character(kind=c_char), pointer :: letters(:)
    integer :: i
    call c_f_pointer(@name@_c_status_text(status), letters, [1000])  ! far more than there are
    text = ""
    do i = 1, size(letters)
      if (letters(i) == c_null_char) exit
      text = text // letters(i)
    end do
  end function

end module
