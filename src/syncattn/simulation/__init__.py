"""The physics: oscillators in time, devices made of them, and what they cost."""
