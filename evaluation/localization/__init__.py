"""Which layers of a model write: prompts that differ in a word, sweeps over layers, and what is chosen of them."""
