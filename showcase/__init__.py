"""Where a simulated fleet and the immune system meet: the demo and the simulated daemon. Nothing imports this but scripts."""
