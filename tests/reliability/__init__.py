"""What a disk does to a journal: it forgets, it fails, it is full."""
