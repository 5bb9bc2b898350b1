"""Caffe's io: images, blobs and data as arrays."""

from .pycaffe.io import *  # noqa: F403 - a name that scripts import
