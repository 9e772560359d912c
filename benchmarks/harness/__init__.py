"""Measuring code shared by all benchmarks: the load, CPU and memory accounting, the report."""
