"""Latency on a phone, over adb."""
