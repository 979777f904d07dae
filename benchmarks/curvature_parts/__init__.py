"""The parts of the benchmark of curvature, one subject a file; `benchmarks/curvature.py` runs them."""
