"""Stand-ins for what the routes start, and what the real ones wrote; nothing of it is on a GPU."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from portraitseg.checks.gpu.process import write_runs

#: How a stand-in ends: as it should, at a signal, or not at all.
CRASH, HANG = "kill -SEGV $$", "exec sleep 60"

#: mediapipe 0.10.21 on llvmpipe, shortened.
CLASSIC = """I0000 00:00:1 2 gl_context_egl.cc:85] Successfully initialized EGL. Major : 1 Minor: 5
I0000 00:00:1 3 gl_context.cc:369] GL version: 3.2 (OpenGL ES 3.2 Mesa 22.3.6), renderer: llvmpipe (LLVM 15.0.6)
INFO: Created TensorFlow Lite delegate for GPU.
"""
NO_EGL = """I0000 00:00:1 2 task_runner.cc:85] GPU suport is not available: INTERNAL: ; RET_CHECK failure \
(mediapipe/gpu/gl_context_egl.cc:77) display != EGL_NO_DISPLAYeglGetDisplay() returned error 0x300c
RuntimeError: Service "kGpuService", required by node InferenceCalculator, was not provided
"""
COUNT = "5 operations will run on the GPU, and the remaining 5 operations will run on the CPU.\n"
PARTIAL = (
    "ERROR: Following operations are not supported by GPU delegate:\nLOG_SOFTMAX: Operation is not supported.\n" + COUNT
)
XNNPACK = "INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n"

#: Consoles of @mediapipe/tasks-vision 1.1.0 and @litertjs/core 2.5.3 in Chromium 150, shortened.
WEB_MEDIAPIPE = "I1126 04:25:57.1 1 gl_context.cc:408] GL version: 3.0, renderer: WebKit WebGL\n"
WEB_LITERT = "I1126 04:26:03.9 1 delegate_kernel.cc:855] Initializing WebGPU-based API from graph.\n" + XNNPACK
WEB_PARTIAL = "%c[LiteRT]%c Model not fully compiled for webgpu. Partially delegating to WASM execution.\n"
WEB_INVALID = """Binding size for [Buffer (unlabeled)] is zero.
 - While validating entries[1] against { binding: 1 }
"""


def program(path: Path, body: str) -> None:
    """Writes a shell script that can be run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def say(folder: Path, text: str) -> str:
    """A line of a script that says a text."""
    file = folder / "says"
    file.write_text(text)
    return f"cat {file} >&2"


def mediapipe(environment: Path, log: str, masks: Sequence[np.ndarray] | None, end: str = "exit 0") -> None:
    """The Python of an environment: says a log, leaves masks, ends in some way."""
    lines = [say(environment, log)]
    if masks is not None:
        write_runs(environment / "masks.npz", [[mask] for mask in masks])
        lines.append(f'cp {environment / "masks.npz"} "$4"')
    program(environment / "bin" / "python", "\n".join([*lines, end]))


def browser(
    folder: Path, log: str, facts: dict[str, Any] | None, masks: Sequence[np.ndarray] | None, end: str = "exit 0"
) -> None:
    """A `node` that says what a console said, leaves facts and outputs beside the job, and ends in some way."""
    lines = ['[ "$1" = --version ] && echo v20.11.0 && exit 0', say(folder, log), 'beside="$(dirname "$2")"']
    if facts is not None:
        (folder / "facts").write_text(json.dumps(facts))
        lines.append(f'cp {folder / "facts"} "$beside/facts.json"')
    for run, mask in enumerate(masks or ()):
        (folder / f"mask_{run}").write_bytes(mask.tobytes())
        lines.append(f'cp {folder / f"mask_{run}"} "$beside/output_{run}_0.bin"')
    program(folder / "node", "\n".join([*lines, end]))


def reference_masks(content: bytes, inputs: list[list[np.ndarray]]) -> list[np.ndarray]:
    """What the CPU makes of a file of one input and one output."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    try:
        interpreter = Interpreter(model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    except ValueError:
        # ELU has no reference kernel
        plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        interpreter = Interpreter(model_content=content, experimental_op_resolver_type=plain)
    interpreter.allocate_tensors()
    outputs = []
    for (values,) in inputs:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values)
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    return outputs
