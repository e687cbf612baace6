"""`audiotext demo`: everything on this machine, two real calls at the same time, and what comes out of them."""
