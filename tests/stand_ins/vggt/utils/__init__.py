"""Helpers around the model."""
