"""Benchmarks against the alternatives, in the same run: see README.md."""
