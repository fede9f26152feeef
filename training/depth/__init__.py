"""Instances by depth: rendering each of them by its own words, without training (3DIS and 3DIS-FLUX)."""
