"""Caffe's coord_map: crop and the arithmetic of coordinate maps."""

from .net.coords import *  # noqa: F403 - a name that scripts import
