"""Benchmarks: programs, not tests. Each prints a table and writes JSON under reports/bench."""
