"""Taking a model out of onebasin: as a plain state dict, or as ONNX for whatever runs that."""
