! Classifies the images of an IDX file, such as MNIST's, with a network that fastconv wrote as C, and
! compares with the labels:  classify IMAGES LABELS [THREADS]
program classify
  use, intrinsic :: iso_c_binding
  use, intrinsic :: iso_fortran_env, only: error_unit
  use mnist
  implicit none

  integer(c_int8_t), allocatable :: pixels(:), labels(:), workspace(:)
  real(mnist_real), allocatable :: images(:, :), scores(:, :)
  integer, allocatable :: classes(:)
  integer(c_int64_t) :: count, bytes
  integer(c_int) :: threads
  integer :: right, status
  character(:), allocatable :: text
  type(c_ptr) :: model

  if (command_argument_count() < 2) call fail("usage: classify IMAGES LABELS [THREADS]")
  call read_idx(argument(1), 3, pixels, count)
  call read_idx(argument(2), 1, labels, count)
  if (size(pixels, kind=c_int64_t) /= count * mnist_input_size) then
    call fail("the images are not as many as the labels, or of another size than the network's")
  end if
  threads = 1
  if (command_argument_count() > 2) then
    text = argument(3)
    read (text, *, iostat=status) threads
    if (status /= 0) call fail("THREADS must be a number, got " // text)
  end if

  ! The network takes bytes as they are, from 0 to 255, and normalises them; an image is a column.
  images = reshape(real(iand(int(pixels), 255), mnist_real), [mnist_input_size, count])
  allocate (scores(mnist_output_size, count))

  call check(mnist_init(model))
  bytes = 0
  call check(mnist_workspace_size(count, threads, bytes))
  allocate (workspace(bytes))
  call check(mnist_run(model, count, images, scores, workspace, bytes, threads))
  call mnist_free(model)

  classes = maxloc(scores, 1) - 1
  right = int(sum(merge(1, 0, classes == iand(int(labels), 255))))
  print "(i0, a, i0, a, f6.2, a)", right, " of ", count, " images are classified as labelled: ", &
    100.0 * right / real(count), " %"

contains

  ! The bytes of an IDX file of so many axes, and the length of the first: four bytes say what it
  ! holds (0, 0, 8 for bytes, the number of axes), then each length has four, the highest first.
  subroutine read_idx(path, axes, content, length)
    character(*), intent(in) :: path
    integer, intent(in) :: axes
    integer(c_int8_t), allocatable, intent(out) :: content(:)
    integer(c_int64_t), intent(out) :: length
    integer(c_int8_t) :: header(4 + 4 * axes)
    integer(c_int64_t) :: lengths(axes), file_size
    integer :: unit, axis, byte
    open (newunit=unit, file=path, access="stream", form="unformatted", status="old", &
      action="read", iostat=status)
    if (status /= 0) call fail("cannot open " // path)
    read (unit, iostat=status) header
    if (status /= 0) call fail(path // " is too short")
    if (any(header(:4) /= [0, 0, 8, axes])) call fail(path // " is no IDX file of such arrays")
    lengths = 0
    do axis = 1, axes
      do byte = 1, 4
        lengths(axis) = lengths(axis) * 256 + iand(int(header(4 * axis + byte)), 255)
      end do
    end do
    inquire (unit=unit, size=file_size)
    if (file_size - size(header) /= product(lengths)) then
      call fail(path // " has another length than it says")
    end if
    allocate (content(product(lengths)))
    read (unit, iostat=status) content
    if (status /= 0) call fail("cannot read " // path)
    close (unit)
    length = lengths(1)
  end subroutine

  function argument(number) result(text)
    integer, intent(in) :: number
    character(:), allocatable :: text
    integer :: length
    call get_command_argument(number, length=length)
    allocate (character(length) :: text)
    call get_command_argument(number, text)
  end function

  subroutine check(status)
    integer(c_int), intent(in) :: status
    if (status /= mnist_ok) call fail(mnist_status_text(status))
  end subroutine

  subroutine fail(message)
    character(*), intent(in) :: message
    write (error_unit, "(a)") "classify: " // message
    stop 1
  end subroutine

end program
