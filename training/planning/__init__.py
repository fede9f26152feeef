"""What a training will need before it runs: memory, compute, time, storage and money."""
