"""Pure tensor math: the merge state, parameters, statistics, distances. No Flower in here."""
