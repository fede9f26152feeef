"""Is a text toxic? The role ``toxicity``: words of a list, or a text classifier by path."""
