"""The world that knows the truth: simulated agents, what can befall them, and the sealed record of what did.

The control plane meets it only through the ports; nothing in `immune/` imports this package.
"""
