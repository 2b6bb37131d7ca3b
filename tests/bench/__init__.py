"""Comparative benchmarks against other upload clients; `python -m tests.bench --help`."""
