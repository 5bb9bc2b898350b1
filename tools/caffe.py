#!/usr/bin/env python3
"""The same as `netspec caffe`; runs from any folder."""

if __name__ == "__main__":  # not in the processes that it spawns, to read data
    from door import enter

    enter(__file__)
