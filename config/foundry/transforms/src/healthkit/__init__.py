"""Transforms of the dataset that Atlas writes: raw rows to samples, days, nights and workouts."""
