"""Whether real clients open .tflite files: MediaPipe Tasks' ImageSegmenter, and LiteRT's own benchmark tool."""
