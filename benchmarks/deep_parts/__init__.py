"""Parts of `benchmarks/deep_sigmoid.py`."""
