"""The site: holds the images, adapts the base to them, and sends one update."""
