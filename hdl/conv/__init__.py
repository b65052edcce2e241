"""Convolutional stages: windows, pooling, residual addition, depthwise convolution."""
