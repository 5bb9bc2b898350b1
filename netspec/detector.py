"""Caffe's Detector."""

from .pycaffe.classifier import *  # noqa: F403 - a name that scripts import
