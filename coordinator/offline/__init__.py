"""Merging model files that are at hand: no campaign, no network, no keys."""
