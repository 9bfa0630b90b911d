"""What runs: the engine that ticks, the supervisor that keeps its children alive, the writer of measurements."""
