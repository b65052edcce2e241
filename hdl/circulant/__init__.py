"""The block-circulant engine: real FFT units and spectral multiply-accumulators."""
