"""Runs a .tflite in the real LiteRT for a JVM: bytes of the input on stdin, bytes of the output on stdout."""

import struct
import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter

try:
    interpreter = Interpreter(model_path=sys.argv[1], num_threads=1)
    interpreter.allocate_tensors()
except (ValueError, RuntimeError):
    sys.stdout.buffer.write(struct.pack(">i", -1))
    sys.exit()
entering, leaving = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
inputs = interpreter.get_tensor(entering["index"])
size = interpreter.get_tensor(leaving["index"]).nbytes
sys.stdout.buffer.write(struct.pack(">ii", inputs.nbytes, size))
sys.stdout.buffer.flush()
while len(content := sys.stdin.buffer.read(inputs.nbytes)) == inputs.nbytes:
    interpreter.set_tensor(entering["index"], np.frombuffer(content, inputs.dtype).reshape(inputs.shape))
    interpreter.invoke()
    sys.stdout.buffer.write(interpreter.get_tensor(leaving["index"]).tobytes())
    sys.stdout.buffer.flush()
