"""Several trainings side by side: contests, learning rates, the table of networks, our own speed."""
