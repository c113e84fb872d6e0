"""A photo in, a mask out; a video in, a matte out: what people run on their own pictures."""
