"""Data on its way to a training loop: labelled images, augmentation and minibatches.

Pure NumPy. :func:`load` and :func:`load_train_test` read labelled images, the transforms
change a batch at random, and :class:`Minibatches` cuts arrays into reproducible batches.
"""

from fastconv.data.augment import Compose as Compose
from fastconv.data.augment import GaussianNoise as GaussianNoise
from fastconv.data.augment import RandomCrop as RandomCrop
from fastconv.data.augment import RandomFlip as RandomFlip
from fastconv.data.augment import RandomShift as RandomShift
from fastconv.data.dataset import Dataset as Dataset
from fastconv.data.dataset import stratified_split as stratified_split
from fastconv.data.idx import read_idx as read_idx
from fastconv.data.images import IMAGE_SUFFIXES as IMAGE_SUFFIXES
from fastconv.data.images import read_image as read_image
from fastconv.data.loader import Minibatches as Minibatches
from fastconv.data.sources import load as load
from fastconv.data.sources import load_images as load_images
from fastconv.data.sources import load_train_test as load_train_test
