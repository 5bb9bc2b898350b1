"""What everything stands on: errors, files, log, machine, metrics; no torch where it can be."""
