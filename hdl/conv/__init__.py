"""The sliding window, and what convolution and pooling are made of."""
