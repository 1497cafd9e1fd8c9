"""A stand-in for microsoft/MoGe: its two model classes with their real signatures, and a slanted plane for a result."""
