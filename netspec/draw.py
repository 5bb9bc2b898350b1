"""Caffe's draw: pictures of nets."""

from .pycaffe.draw import *  # noqa: F403 - a name that scripts import
