"""Speed beside scipy and torch on the same work: python -m benchmarks special vmf sampler vae."""
