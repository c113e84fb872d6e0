"""Verdicts: crash, hang, NaN, a constant output, a wrong number, and what is no fault of the file."""

from pathlib import Path

import numpy as np
import pytest

from portraitseg.checks import record
from portraitseg.checks.arm import check, command, emulate, fetch
from portraitseg.checks.arm.cores import CORES, make_root
from portraitseg.checks.arm.emulate import Machine, Outcome, Task
from portraitseg.checks.gpu.inputs import make_inputs
from portraitseg.errors import CheckFailed, InputError
from portraitseg.manifest import ArmCheck
from portraitseg.synthetic import portraits as synthetic
from portraitseg.tflite.graph import Graph, read_graph
from tests.runners import hostile
from tests.runners.tiny import write_tflite

SHAPE = (1, 24, 30, 3)
PHOTOS = [synthetic.render(0, (24, 30), 0)[0]]
needs_machine = pytest.mark.skipif(fetch.why_not() is not None, reason=f"{fetch.why_not()}")


def task(path: Path) -> Task:
    graph = read_graph(path)
    return Task(path, graph, make_inputs(graph, PHOTOS, noise=1))


@pytest.fixture(name="good")
def _good(tmp_path: Path) -> Task:
    return task(write_tflite(tmp_path / "good.tflite", shape=SHAPE))


def outputs(graph: Graph, values: float | np.ndarray) -> list[list[np.ndarray]]:
    return [[np.broadcast_to(np.float32(values), graph.outputs[0].shape).copy()] for _ in range(2)]


def varied(graph: Graph) -> list[list[np.ndarray]]:
    return outputs(graph, np.random.default_rng(0).random(graph.outputs[0].shape))


class TestVerdicts:
    def judge(self, good: Task, found: Outcome, native: Outcome | None = None) -> check.ArmRun:
        return check.judge("cortex-a76", good.graph, found, native or Outcome(varied(good.graph)))

    def test_equal_passes(self, good: Task) -> None:
        run = self.judge(good, Outcome(varied(good.graph)))
        assert (run.verdict, run.max_abs, run.mask_iou) == ("passed", 0, 1)

    @pytest.mark.parametrize("words", ["crash (SIGSEGV)", "no result within 600 s"])
    def test_no_outputs(self, good: Task, words: str) -> None:
        run = self.judge(good, Outcome(None, words))
        assert (run.verdict, run.reason) == ("failed", words)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_one_number_that_is_none(self, good: Task, value: float) -> None:
        found = varied(good.graph)
        found[1][0][0, 3, 4, 0] = value
        run = self.judge(good, Outcome(found))
        assert run.verdict == "failed" and "not finite at 1 places, in 1 of 2 runs" in (run.reason or "")

    def test_constant(self, good: Task) -> None:
        run = self.judge(good, Outcome(outputs(good.graph, 0.5)), Outcome(outputs(good.graph, 0.5)))
        assert run.verdict == "failed" and "0.5 everywhere" in (run.reason or "")

    def test_one_pixel_beyond_the_bound(self, good: Task) -> None:
        found = varied(good.graph)
        found[0][0][0, 0, 0, 0] += 3e-4
        run = self.judge(good, Outcome(found))
        assert run.verdict == "failed" and "differs by 0.0003, at most 0.0002" in (run.reason or "")

    @pytest.mark.parametrize(("all_", "one", "verdict"), [(0, 2, "failed"), (0, 1, "passed"), (1, 0, "failed")])
    def test_steps_of_int8(self, tmp_path: Path, all_: int, one: int, verdict: str) -> None:
        tiny = task(write_tflite(tmp_path / "q.tflite", SHAPE, dtype="uint8", scale=1 / 255))
        steps = np.random.default_rng(0).integers(0, 200, tiny.graph.outputs[0].shape).astype(np.uint8)
        moved = steps + np.uint8(all_)
        moved[0, 0, 0, 0] += one
        run = check.judge("cortex-a76", tiny.graph, Outcome([[moved]]), Outcome([[steps]]))
        assert run.verdict == verdict
        # the file is one MEAN, which is known for it
        assert ("8-bit MEAN and MUL" in (run.reason or "")) == (verdict == "failed")

    def test_a_fault_of_the_emulator_is_not_the_files(self, good: Task) -> None:
        assert self.judge(good, Outcome(None, "did not start", is_ours=True)).verdict == "not_run"


class TestProcesses:
    def test_a_crash_takes_no_other_file_along(self, tmp_path: Path, good: Task) -> None:
        bad = task(hostile.write_crashing(tmp_path / "bad.tflite"))
        found = emulate.run_native([good, bad, good])
        assert found[0].outputs is not None and found[2].outputs is not None
        assert found[1].outputs is None and "crash" in (found[1].error or "")

    def test_a_hang_is_ended(self, tmp_path: Path, good: Task) -> None:
        bad = task(hostile.write_endless(tmp_path / "bad.tflite"))
        found = emulate.run_native([bad, good], time_limit_s=2.0)
        assert found[0].error == "no result within 2 s" and found[1].outputs is not None

    def test_a_process_that_does_not_start(self, tmp_path: Path, good: Task) -> None:
        for name in (fetch.QEMU, fetch.LIBRARY):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / fetch.QEMU).write_text("#!/bin/sh\necho no emulator >&2; exit 3\n")
        (tmp_path / fetch.QEMU).chmod(0o755)
        (tmp_path / fetch.LIBRARY).write_bytes(b"\x7fELF\x02\x01" + bytes(58))
        found = emulate.run_emulated([good], "cortex-a76", Machine(tmp_path, None))
        assert found[0].is_ours and "no emulator" in (found[0].error or "")


def test_not_run_says_why(tmp_path: Path, good: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(fetch.CACHE_VARIABLE, str(tmp_path / "nothing"))
    (found,) = check.examine([good.path], PHOTOS, ["cortex-a53"])
    (row,) = check.to_checks(found)
    assert row.verdict == "not_run" and row.reason and row.instructions is None
    with pytest.raises(ValueError, match="without its reason"):
        ArmCheck(core="cortex-a53", verdict="not_run")


def test_what_did_not_run_replaces_nothing() -> None:
    old = ArmCheck(core="cortex-a53", verdict="passed", instructions=7)
    new = ArmCheck(core="cortex-a53", verdict="not_run", reason="no emulator")
    assert record.merged((old,), [new]) == (old,)
    assert record.merged((), [new]) == (new,)


def test_bad_use(good: Task) -> None:
    with pytest.raises(InputError, match="at least one"):
        command.check_arm_command([])
    with pytest.raises(InputError, match="--core m1: there are cortex-a53"):
        command.check_arm_command([good.path], ["m1"])
    with pytest.raises(InputError, match="is a file"):
        command.check_arm_command([good.path], report_folder=good.path)


def test_roots_are_of_their_core(tmp_path: Path) -> None:
    (tmp_path / "guest").mkdir()
    for name, core in CORES.items():
        root = make_root(core, tmp_path / "guest", tmp_path / "roots" / name)
        text = (root / "proc/cpuinfo").read_text()
        assert f"CPU part\t: {core.part:#x}\n" in text
        assert ("asimddp" in text) == (name != "cortex-a53")
        assert ("i8mm" in text) == (name in ("cortex-a510", "cortex-a715"))


@needs_machine
class TestEmulated:
    @pytest.fixture(name="machine")
    def _machine(self) -> Machine:
        folder = fetch.cache_folder()
        return Machine(folder / "machine", fetch.build_plugin(folder))

    def test_files_whole_and_damaged(self, machine: Machine, tmp_path: Path, good: Task) -> None:
        crash = task(hostile.write_crashing(tmp_path / "crash.tflite"))
        broken = tmp_path / "nan.tflite"
        weight = np.float32(0.5).tobytes()
        broken.write_bytes(good.path.read_bytes().replace(weight, np.float32(np.nan).tobytes()))
        tasks = [good, task(broken), crash]
        found = emulate.run_emulated(tasks, "cortex-a76", machine)
        native = emulate.run_native(tasks)
        runs = [check.judge("cortex-a76", t.graph, f, n) for t, f, n in zip(tasks, found, native, strict=True)]
        assert [run.verdict for run in runs] == ["passed", "failed", "failed"]
        assert "not finite" in (runs[1].reason or "") and "crash" in (runs[2].reason or "")
        count = runs[0].count
        assert count is not None and count.is_matched and 1e3 < count.instructions < 1e6
        assert any("f32" in name and "ukernel" in name for name in count.kernels)

    def test_decoded_bytes_are_the_emulators(self, machine: Machine, tmp_path: Path, good: Task) -> None:
        """Bytes are read off instruction words; the emulator's own counting of every access must say the same."""

        class Counting(Machine):
            def command(self, core: str, folder: Path) -> list[str]:
                parts = super().command(core, folder)
                parts[parts.index("-plugin") + 1] += ",memory=1"
                return ["/bin/sh", "-c", f'"$@"; tail -n 2 "{folder}/count.0" > "{tmp_path}/memory"', "sh", *parts]

        (found,) = emulate.run_emulated([good], "cortex-a76", Counting(machine.folder, machine.plugin))
        _, loaded, stored = (tmp_path / "memory").read_text().split()[:3]
        assert found.count is not None
        assert found.count.loaded == pytest.approx(int(loaded), rel=1e-3)
        assert found.count.stored == pytest.approx(int(stored), rel=1e-3)

    def test_command_writes_reports(self, tmp_path: Path, good: Task) -> None:
        folder = tmp_path / "reports"
        command.check_arm_command([good.path], ["cortex-a55"], good.path, report_folder=folder, photos=1)
        text = (folder / "good.arm.md").read_text()
        assert "| cortex-a55 | passed | " in text and "| 1.000 |" in text
        flat = write_tflite(tmp_path / "flat.tflite", shape=SHAPE)
        flat.write_bytes(flat.read_bytes().replace(np.float32([0.5, 0.3, 0.2]).tobytes(), bytes(12)))
        with pytest.raises(CheckFailed, match=r"flat\.tflite"):
            command.check_arm_command([flat], ["cortex-a55"], photos=1)
