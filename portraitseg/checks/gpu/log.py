"""What a GPU delegate says while it takes a file: the runtime raises nothing for most of it."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Log:
    """What a delegate wrote on stderr, or into a browser's console.

    Attributes:
        delegated: operators on the GPU, where it says so: only when there are others.
        refused: its lines on operators that it does not take, `NAME: why`.
        validation: its first validation error, for which it raises nothing.
        fatal: the last words before an abort.
        errors: other errors and warnings of the runtime, without those of the search for accelerators.
        exception: the last line of a Python exception that ended the process.
    """

    adapter: str | None = None
    delegated: int | None = None
    refused: tuple[str, ...] = ()
    validation: str | None = None
    fatal: str | None = None
    has_no_adapter: bool = False
    errors: tuple[str, ...] = ()
    exception: str | None = None


#: Errors of the runtime, without its search for accelerators and what it says of its own log.
_ERROR = re.compile(r"^(?:ERROR|WARNING): (?!\[|Logging|All log messages)(.*)", re.M)

#: How Python ends a process: `RuntimeError: …`, `ai_edge_litert.SomeError: …`, not behind a prefix of a log.
_EXCEPTION = re.compile(r"^(?:\w+\.)*[A-Z]\w*(?:Error|Exception|Interrupt)\b(?:: .*)?$", re.M)


def read_log(text: str) -> Log:
    """Reads what a delegate wrote, by its own phrases.

    They are those of ai-edge-litert 2.3.0; mediapipe 0.10.21 and the runtimes for browsers use the same. A browser
    writes WebGPU's validation errors into its console without that name, but with what it was doing.
    """
    adapter = re.search(r"Selected adapter: (.*)", text)
    refused = re.search(
        r"Following operations are not supported by GPU delegate:\n(.*?)\n[^\n]*operations will run", text, re.S
    )
    count = re.search(r"(\d+|No) operations will run on the GPU, and (?:the remaining|all) \d+", text)
    validation = re.search(r"Validation error: (.*)", text) or re.search(r"^(.+)\n - While [a-z]+ing ", text, re.M)
    fatal = re.search(r"^F\d{4} .*?\] (.*)", text, re.M)
    return Log(
        adapter=adapter[1].strip() if adapter else None,
        delegated=(0 if count[1] == "No" else int(count[1])) if count else None,
        refused=tuple(line.strip() for line in refused[1].splitlines() if line.strip()) if refused else (),
        validation=validation[1].strip() if validation else None,
        fatal=fatal[1].strip() if fatal else None,
        has_no_adapter="No adapters found" in text or "Couldn't load Vulkan" in text,
        errors=tuple(match[1].strip() for match in _ERROR.finditer(text)),
        exception=_last_exception(text),
    )


def _last_exception(text: str) -> str | None:
    # what follows the traceback's last frame; a message may go over several lines
    exceptions = _EXCEPTION.findall(text)
    return exceptions[-1].strip()[:300] if exceptions else None
