"""The whole daemon in a world made of faults: seeded histories, an auditor for every invariant, a shrinker for what it finds.

Used by the tests (some hundred histories) and by `benchmarks/reliability.py` (as many as there is time for). Nothing in
`immune/` knows of it.
"""
