"""Models that write: which of their layers do, what those can be used for, and what ships."""
