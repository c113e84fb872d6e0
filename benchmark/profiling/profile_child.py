"""Asks LiteRT's own profiler what each operator takes; run as a process of its own, since it speaks the C interface.

The Python classes of ai-edge-litert show no profiler, but their library has one, which sees into XNNPACK. Functions and
constants are those of litert/c/*.h in the sources of LiteRT.
"""

import ctypes
import json
import sys
from pathlib import Path
from typing import Any

#: kLiteRtHwAcceleratorCpu.
_CPU = 1

#: 64-bit words of one `ProfiledEventData` in ai-edge-litert 2.3: tag, type, start and elapsed microseconds, memory
#: before and after (three each), two metadata, source. It is measured each time, and another one refused.
_EVENT_WORDS = 13

#: What the buffer of events is filled with, to see how far it was written.
_UNTOUCHED = 0xA5A5A5A5A5A5A5A5

#: Room for a longer event than ours.
_ROOM_WORDS = 64

#: OPERATOR_INVOKE_EVENT: an operator, or a delegate as a whole; DELEGATE_PROFILED_OPERATOR_INVOKE_EVENT: one inside it.
OPERATOR, INSIDE_DELEGATE = 2, 8

Event = tuple[str, int, int, int]


class Refused(Exception):
    """The library does not do what is asked of it."""


class Profiler:
    """One .tflite, compiled for the CPU with profiling on; lives as long as its process."""

    def __init__(self, path: str, threads: int) -> None:
        import ai_edge_litert

        self._library = ctypes.CDLL(str(Path(ai_edge_litert.__file__).parent / "libLiteRt.so"))
        self._libc = ctypes.CDLL(None)
        self._libc.strdup.restype = ctypes.c_void_p
        environment = self._make("CreateEnvironment", ctypes.c_int(0), None)
        model = self._make("CreateModelFromFile", environment, path.encode())
        options = self._make("CreateOptions")
        self._call("SetOptionsHardwareAccelerators", options, ctypes.c_int(_CPU))
        for name, toml in (
            ("runtime_options_string", "enable_profiling = true\n"),
            ("xnnpack", f"num_threads = {threads}\n"),
        ):
            # LiteRT frees the text, with the function that it is given
            text = ctypes.c_void_p(self._libc.strdup(toml.encode()))
            free = ctypes.cast(self._libc.free, ctypes.c_void_p)
            self._call("AddOpaqueOptions", options, self._make("CreateOpaqueOptions", name.encode(), text, free))
        self._model = self._make("CreateCompiledModel", environment, model, options)
        graph = self._make("GetModelSubgraph", model, ctypes.c_size_t(0))
        self._input, self._output = (self._buffer(environment, graph, kind) for kind in ("Input", "Output"))
        self._profiler = self._make("CompiledModelGetProfiler", self._model)

    def run(self) -> None:
        """Runs the file once."""
        one, zero = ctypes.c_size_t(1), ctypes.c_size_t(0)
        pointers = ctypes.byref(self._input), ctypes.byref(self._output)
        self._call("RunCompiledModel", self._model, zero, one, pointers[0], one, pointers[1])

    def events(self) -> list[Event]:
        """Runs the file once under the profiler: (tag, type, microseconds, index) in the order of execution."""
        for step in ("ResetProfiler", "StartProfiler"):
            self._call(step, self._profiler)
        self.run()
        self._call("StopProfiler", self._profiler)
        count = ctypes.c_int()
        self._call("GetNumProfilerEvents", self._profiler, ctypes.byref(count))
        size = count.value * _ROOM_WORDS
        words = (ctypes.c_uint64 * size)(*[_UNTOUCHED] * size)
        self._call("GetProfilerEvents", self._profiler, count, words)
        check_layout(list(words), count.value)
        rows = (words[start : start + _EVENT_WORDS] for start in range(0, count.value * _EVENT_WORDS, _EVENT_WORDS))
        return [(_text(row[0]), row[1] & 0xFFFFFFFF, row[3], row[10]) for row in rows]

    def _buffer(self, environment: Any, graph: Any, kind: str) -> Any:
        tensor = self._make(f"GetSubgraph{kind}", graph, ctypes.c_size_t(0))
        # LiteRtRankedTensorType: the library fills it, and reads it back
        tensor_type = (ctypes.c_ubyte * 1024)()
        self._call("GetRankedTensorType", tensor, tensor_type)
        zero = ctypes.c_size_t(0)
        needs = self._make(f"GetCompiledModel{kind}BufferRequirements", self._model, zero, zero)
        return self._make("CreateManagedTensorBufferFromRequirements", environment, tensor_type, needs)

    def _make(self, name: str, *arguments: Any) -> Any:
        made = ctypes.c_void_p()
        self._call(name, *arguments, ctypes.byref(made))
        return made

    def _call(self, name: str, *arguments: Any) -> None:
        function = getattr(self._library, f"LiteRt{name}", None)
        if function is None:
            raise Refused(f"this ai-edge-litert has no LiteRt{name}")
        function.restype = ctypes.c_int
        if status := function(*arguments):
            raise Refused(f"LiteRt{name} answers with status {status}")


def check_layout(words: list[int], count: int) -> None:
    """Makes sure that `count` events of our length were written, and nothing else.

    Raises:
        Refused: events of another length, as another version of LiteRT may have.
    """
    touched = max((index + 1 for index, word in enumerate(words) if word != _UNTOUCHED), default=0)
    # the last word of an event has four bytes of padding, which may stay as they were
    if count < 1 or touched != count * _EVENT_WORDS:
        raise Refused(f"this ai-edge-litert writes {touched} words for {count} events, known are {_EVENT_WORDS} each")
    if any((words[index * _EVENT_WORDS + 1] & 0xFFFFFFFF).bit_count() != 1 for index in range(count)):
        raise Refused("this ai-edge-litert has events of another form")


def _text(address: int) -> str:
    return ctypes.string_at(address).decode(errors="replace") if address else ""


def main(arguments: list[str]) -> int:
    """The process: path, threads, warm-up runs, runs; prints a JSON list of runs, each a list of events."""
    path, threads, warmup, runs = arguments[0], *(int(number) for number in arguments[1:4])
    try:
        profiler = Profiler(path, threads)
        for _ in range(warmup):
            profiler.run()
        print(json.dumps([profiler.events() for _ in range(runs)]))
    except (Refused, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
