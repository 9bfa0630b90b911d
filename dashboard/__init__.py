"""The dashboard: a process of its own that reads journal and telemetry, and writes only through the daemon's control API.

`python -m dashboard` starts it. What it may touch of the control plane's stores is in `composition`, and nowhere else.
"""
