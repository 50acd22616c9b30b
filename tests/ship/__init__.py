"""What is shipped: image, wheel, deployment files, guide; each held to the code."""
