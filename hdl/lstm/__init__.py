"""The LSTM: activations, element-wise part, and the stage around them."""
