"""How batches reach the loop: their order, where their shards lie, and where their text states come from."""
