"""Stands in for adb and a phone: its answers are constructed, and chosen by the JSON file beside it.

Keys: `devices` (what `adb devices` prints below its head line), `answers` (flag → transcript), `vanish_after` (calls of
benchmark_model), `push_fails`, `hang`.
"""

import json
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
SCENARIO = json.loads((HERE / "scenario.json").read_text())
LOG = HERE / "calls.log"
PROPERTIES = {
    "ro.product.manufacturer": "Constructed",
    "ro.product.model": "Phone 1",
    "ro.soc.model": "",
    "ro.build.version.release": "15",
    "ro.product.cpu.abi": "arm64-v8a",
}


def calls_of_the_program() -> int:
    return sum("--graph=" in line for line in LOG.read_text().splitlines())


def is_gone() -> bool:
    limit = SCENARIO.get("vanish_after")
    return limit is not None and calls_of_the_program() > limit


def run_program(command: str) -> int:
    if SCENARIO.get("hang"):
        time.sleep(30)
    for flag, name in SCENARIO["answers"].items():
        if flag in command:
            if name == "crash":
                print("ERROR: Didn't find op for builtin opcode 'CONV_2D' version '9'\nFailed to construct interpreter")
                return 1
            print((Path(SCENARIO["transcripts"]) / f"{name}.txt").read_text())
            return 0
    return 127


def main() -> int:
    arguments = sys.argv[1:]
    with LOG.open("a") as log:
        log.write(" ".join(arguments) + "\n")
    if arguments == ["devices"]:
        print("* daemon started successfully\nList of devices attached\n" + SCENARIO["devices"])
        return 0
    serial, verb, rest = arguments[1], arguments[2], arguments[3:]
    if is_gone():
        print(f"adb: device '{serial}' not found", file=sys.stderr)
        return 1
    if verb == "get-state":
        print("device")
        return 0
    if verb == "push":
        if SCENARIO.get("push_fails"):
            print("adb: error: failed to copy: remote No space left on device")
            return 1
        return 0
    command = rest[0]
    if command.startswith("getprop "):
        print(PROPERTIES[command.split()[1]])
    if "--graph=" in command:
        return run_program(command)
    return 0


if __name__ == "__main__":
    sys.exit(main())
