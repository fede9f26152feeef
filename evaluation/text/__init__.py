"""What captions are made of: nouns and noun phrases, by a small English model out of a Python package."""
