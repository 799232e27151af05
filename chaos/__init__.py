"""Faults done to a real federation, one at a time, and what must hold after each."""
