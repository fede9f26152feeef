"""The scaling grid: runs, scores on the way, learning efficiency and what they say of the claims."""
