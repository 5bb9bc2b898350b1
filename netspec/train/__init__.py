"""Solver, updates, snapshots, stages."""
