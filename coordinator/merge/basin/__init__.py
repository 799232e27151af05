"""Whether models lie in one basin of the loss, told from their weights; and the alignment of those that don't."""
