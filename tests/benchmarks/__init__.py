"""Benchmarks: what the documentation says of cost is printed by these, on the machine that they run on."""
