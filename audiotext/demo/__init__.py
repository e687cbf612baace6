"""Demo: runs everything on this machine, plays two real calls at the same time and prints their results."""
