"""Runs claims, keeps what they found as records, and makes pages of these."""
