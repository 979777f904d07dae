"""Procedures around training: what is done to a model before, between and after its runs."""
