"""Caffe's draw: pictures of nets."""

from .look.figure3 import *  # noqa: F403 - a name that scripts import
