"""Libraries on top of Raylet."""
