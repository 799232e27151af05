"""Flower's own averaging, for comparison."""
