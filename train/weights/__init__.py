"""Weights to begin with: ImageNet's, other people's h5 and .tflite, wider ones, means of several."""
