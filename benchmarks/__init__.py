"""Benchmarks: what each part costs in time and memory, with the spread and the machine."""
