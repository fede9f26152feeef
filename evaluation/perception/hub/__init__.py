"""Perception by models of the Hugging Face ecosystem, given by local path or hub id; see :mod:`.models`."""
