"""Layout control: what should stand where, and the branches that tell a frozen backbone (CreatiLayout, arXiv 2412.03859)."""
