"""Caffe's Classifier."""

from .pycaffe.classifier import *  # noqa: F403 - a name that scripts import
