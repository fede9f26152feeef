"""Metrics: how far generated or predicted pictures are from what was asked."""
