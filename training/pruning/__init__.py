"""Structured pruning as in EcoDiff (arXiv 2412.02852): units, masks, their selection and structural removal."""
