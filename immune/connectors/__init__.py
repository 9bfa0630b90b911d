"""The hands of the system: one file per way to hold an agent and to heal it."""
