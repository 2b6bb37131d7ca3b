"""Proof under faults: every figure that is promised, counted. `python -m tests.faults --report` prints them as a table.

A module here that has `figures() -> list[Figure]` and stands in `figures.MODULES` adds its rows; `trial.Trial` is one upload
against a judge of its own with all invariants checked, `running.run` one process, killed at its deadline.
"""
