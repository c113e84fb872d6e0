"""`python -m tests.hardening.fuzz.run <target> --runs 100000`: fuzzing guided by coverage, with atheris.

What it finds is written to `.cache/fuzz/<target>/`;
a small one goes into tests/hardening/fuzz/findings/<target>-<what> with its fix.
"""

import argparse
import signal
import sys
from functools import partial
from pathlib import Path

#: Of the processor, for one input; a machine that does other things as well makes any other limit a false alarm.
#: Images may have 50 megapixels: one of 29, read as a photo and as a mask, took 1.03 s.
LIMITS_S = {"image": 5.0}
LIMIT_S = 1.0


class Hang(BaseException):
    """An input takes longer than its limit; not an Exception, so that no reader can take it for a damaged file."""


def main() -> None:
    """Runs one target until `--runs` inputs are through or one is a finding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", help="a key of tests.hardening.fuzz.targets.TARGETS")
    parser.add_argument("--runs", type=int, default=100_000)
    arguments = parser.parse_args()
    try:
        import atheris
    except ImportError:
        sys.exit("error: atheris is not installed: pip install atheris (it has wheels for Linux, Python 3.11 to 3.13)")

    watched = partial(atheris.instrument_imports, include=["portraitseg", "tomllib", "json", "PIL"])
    with watched():
        from tests.hardening.fuzz.mutate import repair_png
        from tests.hardening.fuzz.seeds import WORDS, seeds
        from tests.hardening.fuzz.targets import SLOW, TARGETS

    if arguments.target not in TARGETS or arguments.target in SLOW:
        sys.exit(f"error: no target '{arguments.target}': choose one of {', '.join(set(TARGETS) - set(SLOW))}")
    folder = Path(".cache/fuzz") / arguments.target
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(seeds(arguments.target)):
        (corpus / f"seed-{number}").write_bytes(data)
    words = folder / "words.txt"
    lines = ["".join(rf"\x{byte:02x}" for byte in word[:64]) for word in WORDS]
    words.write_text("".join(f'"{line}"\n' for line in lines))

    target = TARGETS[arguments.target]
    # imports what it needs: watched, and TensorFlow's 5 s are no hang
    with watched():
        target(b"")

    limit = LIMITS_S.get(arguments.target, LIMIT_S)

    def give_up(*_: object) -> None:
        raise Hang(f"over {limit:g} s of processor time")

    signal.signal(signal.SIGPROF, give_up)

    def watched_target(data: bytes) -> None:
        signal.setitimer(signal.ITIMER_PROF, limit)
        target(data)
        signal.setitimer(signal.ITIMER_PROF, 0)

    def mend(data: bytes, most: int, seed: int) -> bytes:
        changed = bytearray(atheris.Mutate(data, most))
        if seed % 2:
            repair_png(changed)
        return bytes(changed[:most])

    atheris.Setup(
        [
            sys.argv[0],
            f"-runs={arguments.runs}",
            # of the clock: for what hangs in C, out of reach of `Hang`
            "-timeout=900",
            "-print_final_stats=1",
            "-rss_limit_mb=2048",
            "-max_len=20000",
            f"-dict={words}",
            f"-artifact_prefix={folder}/",
            str(corpus),
        ],
        watched_target,
        custom_mutator=mend,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
