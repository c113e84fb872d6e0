"""Tools that judge any .tflite, ours or foreign: they need no run and no training."""
