"""Records of paid work in object storage: orders, results, outputs, clean-up."""
