"""Pure computation on arrays: cameras, procedural scenes, ray casting, warping, metrics. No I/O, no Dagster."""
