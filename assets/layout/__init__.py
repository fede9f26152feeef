"""Models that are told where things stand: how they are trained, and whether they follow."""
