"""Mutants of the engine: sources with one small mistake each, to see whether the tests notice."""
