"""Quality and time of exported files: photos in, scores and milliseconds out."""
