"""A stand-in for facebookresearch/vggt: its model and helpers with their real signatures, and a toy scene."""
