"""Proof that a phone's GPU takes a .tflite file: by rules, and by running it."""
