"""The commands that stand in the documents, and in the script for a cluster, can be typed as they stand."""

from __future__ import annotations

import re
import shlex

import pytest

from deblur.cli import CONFIGS, as_override, settings_of
from deblur.sweep import expand
from tests.conftest import ROOT

DOORS = {
    "train.py": "train",
    "tune.py": "tune",
    "evaluate.py": "evaluate",
    "restore.py": "restore",
    "scripts/preview.py": "preview",
    "scripts/export.py": "export",
    "scripts/publish.py": "publish",
}
CLUSTER = "scripts/slurm.sh"
_IS_COMMAND = re.compile(rf"(\S*/)?(python|torchrun|sbatch)\s.*?({'|'.join([*DOORS, CLUSTER])})\b")
_SET_BY_SLURM = {"SLURM_NNODES": "3", "SLURM_NTASKS_PER_NODE": "4"}
_MADE_BY_A_SEARCH = "experiment=cnn"  # no file before the search that the document has one line earlier


def commands(text: str) -> list[str]:
    """The command lines of a document: its indented lines, and what stands between backticks."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    indented = re.findall(r"^ {4,}(\S(?:.*\\\n)*.*)$", text, re.MULTILINE)
    lines = [" ".join(line.replace("\\\n", " ").split()) for line in (*indented, *re.findall(r"`([^`]+)`", text))]
    parts = [part.strip() for line in lines for part in re.split(r"\s#\s|&&", line)]
    return [part for part in parts if _IS_COMMAND.match(part)]


def cluster_command(typed: list[str]) -> list[str]:
    """The command that the cluster's script runs, with what was typed after its name."""
    (line,) = re.findall(r"^srun (.*)$", (ROOT / CLUSTER).read_text(), re.MULTILINE)
    words = shlex.split(re.sub(r"\$(\w+)", lambda found: _SET_BY_SLURM.get(found[1], found[0]), line))
    assert words[-1] == "$@"
    return [*words[:-1], *typed]


def compose_command(words: list[str]) -> list[dict]:
    """The settings of each run that the command starts."""
    place = next(number for number, word in enumerate(words) if word in DOORS)
    config, typed = DOORS[words[place]], words[place + 1 :]
    sweep = "-m" in typed
    overrides = [as_override(word, config, sweep) for word in typed if "=" in word or word.startswith("~")]
    theirs = [override for override in overrides if override.startswith("hydra")]
    ours = [override for override in overrides if override not in theirs]
    return [settings_of(config, [*theirs, *job])[0] for job in (expand(ours)[0] if sweep else [ours])]


DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = list(dict.fromkeys(command for file in DOCUMENTS for command in commands(file.read_text())))


def test_the_documents_commands_are_found():
    assert len(COMMANDS) > 40
    for door in ("train.py", "tune.py", "evaluate.py", "restore.py", "scripts/preview.py", CLUSTER):
        assert any(door in command.split() for command in COMMANDS), door


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_documents_composes(command):
    if "submitit_slurm" in command:
        pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    words = [re.sub(r"<[^>]+>|…", "somewhere", word) for word in shlex.split(command) if word != _MADE_BY_A_SEARCH]
    if CLUSTER in words:
        words = cluster_command(words[words.index(CLUSTER) + 1 :])
    assert compose_command(words)


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.name)
def test_alternatives_in_the_documents_are_options(file):
    for group, options in re.findall(r"([\w/]+)=(\w+(?:\|\w+)+)", file.read_text()):
        for option in options.split("|"):
            assert (CONFIGS / group / f"{option}.yaml").is_file(), f"{group}={option}"


def test_the_clusters_script_starts_as_many_processes_as_it_asked_for():
    (settings,) = compose_command(cluster_command(["model=unet"]))
    trainer = settings["trainer"]
    assert (trainer["strategy"], trainer["num_nodes"], trainer["devices"]) == ("ddp", 3, 4)
    asked = dict(re.findall(r"^#SBATCH --(\S+)=(\d+)", (ROOT / CLUSTER).read_text(), re.MULTILINE))
    assert asked["ntasks-per-node"] == asked["gpus-per-node"]  # one process for each GPU
