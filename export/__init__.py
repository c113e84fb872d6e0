"""The export stage: a trained run in; files for phones, compared with the Keras model, out."""
