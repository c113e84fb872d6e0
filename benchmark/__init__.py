"""Measures exported files: quality, latency and size, on a host that needs no training stack."""
