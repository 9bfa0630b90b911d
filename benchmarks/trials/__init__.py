"""What benchmarks/detection.py runs: one file per question, `plan` says which and how often, `table` and `page` what came of it."""
