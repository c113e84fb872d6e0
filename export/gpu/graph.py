"""The reader of .tflite graphs under its former name."""

from portraitseg.tflite_graph import DAMAGE, Graph, Op, Tensor, layer_of, parse_graph, read_graph

__all__ = ["DAMAGE", "Graph", "Op", "Tensor", "layer_of", "parse_graph", "read_graph"]
