"""Scaling laws: fits with intervals, and the laws that the paper prints."""
