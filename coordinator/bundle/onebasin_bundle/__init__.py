"""The bundle that Flower ships: it only imports what is installed."""
