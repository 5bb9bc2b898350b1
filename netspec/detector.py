"""Caffe's Detector."""

from .pycaffe.detector import *  # noqa: F403 - a name that scripts import
