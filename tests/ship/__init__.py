"""Checks of the deliverables against the code: image, wheel, deployment files, guide."""
