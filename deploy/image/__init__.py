"""Selection of the locked packages that the image needs."""
