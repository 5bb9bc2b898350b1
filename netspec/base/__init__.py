"""What everything stands on: errors, files, log, machine, metrics; no torch where it can be."""

__version__ = "0.1.0"
