"""Where exported files and their Keras model part, and which layers 8 bits hurt."""
