"""The train stage: photos and masks → Keras h5."""
