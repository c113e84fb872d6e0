"""A phone on the cable: runs adb, and says in a line what stands in the way."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from portraitseg.errors import InputError

#: Seconds after which a command that should be over at once is given up.
SHORT_S = 30.0

#: What a state of `adb devices` means, and what to do.
_STATES = {
    "unauthorized": "unlock it and confirm 'Allow USB debugging'",
    "offline": "unplug it and plug it in again, or run `adb kill-server`",
    "no permissions": "Linux needs a udev rule for it: see https://developer.android.com/tools/device",
    "authorizing": "wait a moment, then run the command again",
    "recovery": "start Android on it",
    "sideload": "start Android on it",
    "bootloader": "start Android on it",
}


class Vanished(InputError):
    """The phone answered before and does not any more."""


@dataclass(frozen=True)
class Phone:
    """One connected phone.

    Attributes:
        adb: the program.
        serial: as `adb devices` names it.
        timeout_s: after which a run of a file is given up.
    """

    adb: Path
    serial: str
    timeout_s: float = 300.0

    def shell(self, command: str, timeout_s: float | None = None) -> tuple[int, str]:
        """Runs a command on the phone: its exit code, and what it printed to both streams.

        Raises:
            Vanished: the phone is gone, or does not answer in time.
        """
        return self._run(("shell", command), timeout_s or self.timeout_s)

    def push(self, source: Path, destination: str) -> None:
        """Copies a file to the phone.

        Raises:
            Vanished: the phone is gone.
            InputError: the phone has no room, or refuses.
        """
        code, text = self._run(("push", str(source), destination), self.timeout_s)
        if code:
            raise InputError(f"{source}: could not be copied to the phone: {_last_line(text)}")

    def property(self, name: str) -> str:
        """A system property, such as ro.product.model; empty where the phone has none."""
        return self.shell(f"getprop {name}", SHORT_S)[1].strip()

    def _run(self, arguments: Sequence[str], timeout_s: float) -> tuple[int, str]:
        try:
            code, text = _call(self.adb, ["-s", self.serial, *arguments], timeout_s)
        except subprocess.TimeoutExpired as error:
            raise Vanished(f"phone {self.serial}: no answer for {timeout_s:.0f} s: {_REPLUG}") from error
        # a failing command on the phone and a phone that is gone look alike: ask
        if code and not self._is_there():
            raise Vanished(f"phone {self.serial}: gone while it was measured ({_last_line(text)}): {_REPLUG}")
        return code, text

    def _is_there(self) -> bool:
        try:
            code, text = _call(self.adb, ["-s", self.serial, "get-state"], SHORT_S)
        except subprocess.TimeoutExpired:
            return False
        return code == 0 and text.strip() == "device"


_REPLUG = "plug it in again, keep its screen on, and run the command again"


def connect(adb: Path, serial: str | None = None, timeout_s: float = 300.0) -> Phone:
    """Finds adb and the phone.

    Args:
        adb: a path, or a name that is looked for on PATH.
        serial: which phone; needed only where there are several.
        timeout_s: after which a run of a file is given up.

    Raises:
        InputError: no adb, no phone, several, or one that cannot be talked to, each with what to do.
    """
    program = shutil.which(str(adb))
    if program is None:
        if adb.exists() and not os.access(adb, os.X_OK):
            raise InputError(f"--adb {adb}: may not be run: chmod +x it")
        raise InputError(f"--adb {adb}: no such program: install Android's platform-tools, or give its path")
    try:
        code, text = _call(Path(program), ["devices"], SHORT_S)
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{program}: no answer for {SHORT_S:.0f} s: run `adb kill-server`, then try again") from error
    if code:
        raise InputError(f"{program}: {_last_line(text)}")
    phones = parse_devices(text)
    if not phones:
        raise InputError("no phone: connect one with USB debugging switched on (developer options)")
    if serial is None:
        if len(phones) > 1:
            raise InputError(f"{len(phones)} phones ({', '.join(phones)}): choose one with --serial")
        serial = next(iter(phones))
    if serial not in phones:
        raise InputError(f"--serial {serial}: no such phone (there are: {', '.join(phones)})")
    if phones[serial] != "device":
        state = phones[serial]
        remedy = next((text for name, text in _STATES.items() if state.startswith(name)), "look at its screen")
        raise InputError(f"phone {serial}: {state}: {remedy}")
    return Phone(Path(program), serial, timeout_s)


def parse_devices(text: str) -> dict[str, str]:
    """Serial → state, from what `adb devices` prints; lines of its server about itself are left out."""
    lines = text.splitlines()
    begin = next((i for i, line in enumerate(lines) if line.startswith("List of devices")), len(lines))
    cells = [line.split(None, 1) for line in lines[begin + 1 :] if line.strip() and not line.startswith("*")]
    return {cell[0]: cell[1].strip() for cell in cells if len(cell) == 2}


def _call(adb: Path, arguments: Sequence[str], timeout_s: float) -> tuple[int, str]:
    try:
        done = subprocess.run(
            [str(adb), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
            check=False,
        )
    except OSError as error:
        raise InputError(f"--adb {adb}: cannot be run: {error.strerror}") from error
    return done.returncode, done.stdout.decode(errors="replace").replace("\r\n", "\n")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
