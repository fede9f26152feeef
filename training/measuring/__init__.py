"""Speed and memory on whatever device is here, of training, sampling and making models smaller: ``python -m training.measuring OUT``."""
