"""`python forked.py SCRIPT MODULES JOBS.json`: one child process for each job, forked behind the slow imports.

SCRIPT is a child of a route (a path), MODULES are imported once (joined by commas), JOBS is a list of
`{"log": path, "arguments": […]}`. What a job says goes into its log; the exit code, or `-signal`, or `timeout`, into
`<log>.code`. Imports nothing of this project: it also runs in the environment of mediapipe.
"""

import importlib
import importlib.util
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

LIMIT_S = 60.0


def main(script: str, modules: str, jobs: str) -> None:
    for name in modules.split(","):
        importlib.import_module(name)
    spec = importlib.util.spec_from_file_location("child", script)
    assert spec is not None
    assert spec.loader is not None
    child = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(child)
    for job in json.loads(Path(jobs).read_text()):
        pid = os.fork()
        if pid == 0:
            _work(child.main, job)
        Path(f"{job['log']}.code").write_text(_wait(pid))


def _work(run, job) -> None:  # type: ignore[no-untyped-def]
    log = os.open(job["log"], os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    code = 0
    try:
        run(job["arguments"])
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _wait(pid: int) -> str:
    start = time.monotonic()
    while time.monotonic() - start < LIMIT_S:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return str(os.waitstatus_to_exitcode(status))
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "timeout"


if __name__ == "__main__":
    main(*sys.argv[1:])
