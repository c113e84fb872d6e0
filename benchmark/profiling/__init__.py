"""Time per operator of a .tflite on this machine."""
