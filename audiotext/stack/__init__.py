"""The single-machine stack: `audiotext up` starts and supervises every service and embedded server."""
