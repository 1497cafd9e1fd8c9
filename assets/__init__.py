"""What is made, from what, and the checks on it."""
