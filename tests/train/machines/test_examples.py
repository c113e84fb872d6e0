"""The examples for clusters: they parse, and what they run is a command of ours."""

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.golden.commands import commands
from train.machines.cluster import cluster_of

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "train/examples"


def _options_of(text: str) -> dict[str, str]:
    words = shlex.split(text)
    fit = words[words.index("fit") + 1 :]
    assert words[words.index("-m") + 1 : words.index("fit")] == ["train"]
    known = {name for param in commands()["train fit"].params for name in param.opts}
    given = dict(zip(fit[::2], fit[1::2], strict=True))
    assert set(given) <= known
    return given


def test_the_slurm_script_names_the_workers(tmp_path) -> None:
    script = EXAMPLES / "slurm.sh"
    assert "\n#SBATCH --ntasks-per-node=1\n" in script.read_text()
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    # stand-ins for Slurm's own: the nodes of a job, and one process of it
    for name, content in {
        "scontrol": 'test "$1 $2 $3" = "show hostnames n[1-2]" && printf "n1\\nn2\\n"',
        "srun": 'shift; SLURM_PROCID=1 exec "$@"',
    }.items():
        (bin_folder / name).write_text(f"#!/bin/sh\n{content}\n")
        (bin_folder / name).chmod(0o755)
    fake = tmp_path / ".venv/bin/python"
    fake.parent.mkdir(parents=True)
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    fake.chmod(0o755)
    environment = {
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "SLURM_JOB_NODELIST": "n[1-2]",
        "DATA": "/photos of mine",
    }
    told = subprocess.run(
        ["bash", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True, timeout=60
    ).stdout.splitlines()
    given = _options_of(shlex.join(["python", *told]))
    cluster = cluster_of(given["--workers"], int(given["--task"]))
    assert cluster is not None and cluster.workers == ("n1:29500", "n2:29500") and cluster.task == 1
    assert given["--data"] == "/photos of mine" and (ROOT / given["--config"]).exists()


def test_the_kubernetes_manifest_names_its_pods() -> None:
    yaml = pytest.importorskip("yaml")
    service, job = yaml.safe_load_all((EXAMPLES / "kubernetes.yaml").read_text())
    spec = job["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    given = _options_of(container["command"][2].replace("$JOB_COMPLETION_INDEX", "1"))
    cluster = cluster_of(given["--workers"], int(given["--task"]))
    assert cluster is not None and len(cluster.workers) == spec["completions"] == spec["parallelism"]
    assert spec["completionMode"] == "Indexed" and service["spec"]["clusterIP"] == "None"
    name, subdomain = job["metadata"]["name"], pod["subdomain"]
    assert subdomain == service["metadata"]["name"] and service["spec"]["selector"] == {"job-name": name}
    port = container["ports"][0]["containerPort"]
    assert cluster.workers == tuple(f"{name}-{number}.{subdomain}:{port}" for number in range(2))
    assert port == service["spec"]["ports"][0]["port"] and pod["restartPolicy"] == "OnFailure"
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert (ROOT / given["--config"]).exists() and float(given["--wait"]) >= 300


def test_the_cuda_lock_is_the_other_lock_with_cudas_packages() -> None:
    def pins(name: str) -> dict[str, str]:
        found = re.findall(r"^([a-z0-9._-]+)(?:\[[a-z,-]+\])?==([^ ;\\]+)", (ROOT / name).read_text(), re.MULTILINE)
        return dict(found)

    plain, cuda = pins("requirements.lock"), pins("requirements-cuda.lock")
    assert {name: cuda.get(name) for name in plain} == plain
    more = cuda.keys() - plain.keys()
    assert more and all(name.startswith("nvidia-") for name in more), json.dumps(sorted(more))
    text = (ROOT / "requirements-cuda.lock").read_text()
    assert "://" not in re.sub(r"#.*", "", text) and text.count("--hash=sha256:") > len(cuda)
