"""The coordinator: asks sites for their updates, checks them, merges them once, and reports."""
