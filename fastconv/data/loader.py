"""Arrays cut into minibatches, in an order that can be repeated."""

import numpy as np

from fastconv._checks import integer, plain


class Minibatches:
    """Iterate over arrays in minibatches of rows.

    One iteration is one epoch. Its order and its augmentation depend on the seed and the number
    of the epoch only, through ``numpy.random.default_rng([seed, epoch])``, so a run that is
    resumed with :meth:`set_epoch` repeats what an uninterrupted run would have done. Epochs count
    from 0; iterating to the end moves on to the next, breaking off does not.

    Parameters
    ----------
    *arrays : ndarray
        At least one, all with the same number of rows, N >= 1.
    batch_size : int
        Rows in a batch; the last batch has the rest.
    shuffle : bool, default True
        Take the rows in a new random order each epoch. Without it, batches are views of the
        arrays, not copies.
    seed : int, default 0
    drop_last : bool, default False
        Leave out a last batch that is smaller than the others.
    transform : callable, optional
        Called as ``transform(batch, rng)`` on the first array's batches, as the transforms of
        :mod:`fastconv.data` are. It must return a new batch and leave its input alone.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If the arrays' lengths differ or are 0, `batch_size` is less than 1, `seed` is negative,
        or `drop_last` leaves no batch.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.data import Minibatches
    >>> x, y = np.arange(10.0), np.arange(10)
    >>> batches = Minibatches(x, y, batch_size=4, shuffle=False)
    >>> [labels.tolist() for _, labels in batches]
    [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    >>> len(batches), batches.epoch
    (3, 1)
    """

    def __init__(self, *arrays, batch_size, shuffle=True, seed=0, drop_last=False, transform=None):
        if not arrays:
            raise TypeError("arrays must be at least one ndarray, got none")
        arrays = tuple(plain(f"arrays[{i}]", array) for i, array in enumerate(arrays))
        for i, array in enumerate(arrays):
            if not isinstance(array, np.ndarray):
                raise TypeError(f"arrays[{i}] must be an ndarray, got {array!r}")
            if array.ndim == 0 or len(array) == 0 or len(array) != len(arrays[0]):
                raise ValueError(
                    f"arrays must have the same number of rows, at least 1, got arrays[{i}] of "
                    f"shape {array.shape} and arrays[0] of shape {arrays[0].shape}"
                )
        batch_size = integer("batch_size", batch_size, 1)
        for name, value in (("shuffle", shuffle), ("drop_last", drop_last)):
            if not isinstance(value, (bool, np.bool_)):
                raise TypeError(f"{name} must be a bool, got {value!r}")
        if drop_last and batch_size > len(arrays[0]):
            raise ValueError(
                f"batch_size must be at most {len(arrays[0])}, the number of rows, when drop_last "
                f"is True, got {batch_size}"
            )
        if transform is not None and not callable(transform):
            raise TypeError(f"transform must be callable or None, got {transform!r}")
        self._arrays = arrays
        self._batch_size = batch_size
        self._shuffle = shuffle
        self._seed = integer("seed", seed, 0)
        self._drop_last = drop_last
        self._transform = transform
        self._epoch = 0

    @property
    def epoch(self):
        """The number of the epoch that the next iteration gives."""
        return self._epoch

    def set_epoch(self, epoch):
        """Make `epoch`, an int of at least 0, the next iteration's.

        Raises
        ------
        TypeError
            If `epoch` is not an int.
        ValueError
            If `epoch` is negative.
        """
        self._epoch = integer("epoch", epoch, 0)

    def __len__(self):
        """The number of batches in an epoch."""
        whole, rest = divmod(len(self._arrays[0]), self._batch_size)
        return whole if self._drop_last or rest == 0 else whole + 1

    def __iter__(self):
        """Tuples of one batch of each array."""
        return self._batches(self._epoch)

    def _batches(self, epoch):
        rng = np.random.default_rng([self._seed, epoch])
        order = rng.permutation(len(self._arrays[0])) if self._shuffle else None
        for i in range(len(self)):
            rows = slice(i * self._batch_size, (i + 1) * self._batch_size)
            if order is not None:
                rows = order[rows]
            first, *others = (array[rows] for array in self._arrays)
            if self._transform is not None:
                first = self._transform(first, rng)
            yield first, *others
        if self._epoch == epoch:  # else set_epoch has been called meanwhile, and stands
            self._epoch = epoch + 1
