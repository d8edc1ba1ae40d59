"""Checkpoints of models of DNA, ours and published ones, and what tells one from another."""

import hashlib
from pathlib import Path

from helixwave.checkpoint import find_checkpoint, load
from helixwave.errors import InputError
from helixwave.pretrained import load_pretrained
from helixwave.pretrained.families import is_own
from helixwave.pretrained.files import read_config, weight_files
from helixwave.pretrained.hub import fetch, is_hub_name
from helixwave.pretrained.settings import Settings

from helixwave_domains.genomics.strands import BothStrands


def load_checkpoint(name: str) -> BothStrands:
    """The model in a run's folder, a checkpoint folder, a published folder, or under a name on the hub.

    Raises:
        InputError: there is none, it is damaged, or it holds no model of DNA.
    """
    path = _located(name)
    model = load(path) if _is_own(path) else load_pretrained(path)
    if not isinstance(model, BothStrands):
        raise InputError(f"{name}: holds a {type(model).__name__}, expected a language model or classifier of DNA")
    return model


def fingerprint(name: str) -> dict[str, str]:
    """The sha256 of each file that a checkpoint's model comes from."""
    path = _located(name)
    files = weight_files(find_checkpoint(path) if _is_own(path) else path)
    folder = files[0].parent
    configs = [folder / config for config in ("config.json", "config.yaml") if (folder / config).is_file()]
    return {file.name: sha256(file) for file in [*configs, *files]}


def sha256(path: Path) -> str:
    """The checksum of a file of any size."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _located(name: str) -> Path:
    path = Path(name).expanduser()
    if path.exists():
        return path
    if is_hub_name(name):
        return fetch(name, None)
    raise InputError(
        f"{name}: no such checkpoint. Expected the folder of a run or of published weights, or OWNER/MODEL"
    )


def _is_own(path: Path) -> bool:
    inner = path / "checkpoint" if (path / "checkpoint").is_dir() else path
    config, where = read_config(inner if inner.is_dir() else inner.parent)
    return is_own(Settings(config, where))
