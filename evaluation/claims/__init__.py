"""Headline claims of the papers as entries with a status."""
