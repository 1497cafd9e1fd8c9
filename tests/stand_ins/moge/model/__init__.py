"""Model classes by version, as in MoGe."""
