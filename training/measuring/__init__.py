"""Speed and memory of training and sampling on whatever device is here: ``python -m training.measuring OUT``."""
