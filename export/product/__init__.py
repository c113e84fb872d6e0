"""What an export target is asked for and promises, and the check that a file says what its Keras model says."""
