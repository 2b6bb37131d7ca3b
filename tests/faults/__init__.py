"""Proof under faults: every figure that is promised, counted. `python -m tests.faults --report` prints them as a table."""
