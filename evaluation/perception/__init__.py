"""Perception that reads pixels only: regions, names, words and sentences. It never sees a scene's truth."""
