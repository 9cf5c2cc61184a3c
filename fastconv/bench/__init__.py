"""Benchmarks that users can run: ``fastconv bench``. No other part of fastconv imports them."""
