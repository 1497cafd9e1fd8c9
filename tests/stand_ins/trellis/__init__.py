"""A stand-in for microsoft/TRELLIS. Its own loads renderers and pipelines, which the worker must do without."""

raise ImportError("the whole of TRELLIS was imported")
