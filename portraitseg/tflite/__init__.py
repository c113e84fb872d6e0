"""A .tflite as data: its graph, metadata and small changes of its bytes; nothing in it is ever executed."""
