"""The runtime of the slow stages: many calls in flight, offsets committed only up to the last hole."""
