"""Published layouts: directory formats that other people's training code reads unchanged.

Each module writes one layout from a release's scenes and examines a published one the way its consumer reads it.
"""
