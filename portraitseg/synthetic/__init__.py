"""Procedural portraits with exact alpha."""
