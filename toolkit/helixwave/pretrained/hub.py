"""Checkpoints on the Hugging Face hub: the only file that talks to it."""

import re
from pathlib import Path

from helixwave.errors import InputError
from helixwave.pretrained.files import LIGHTNING, NEEDED, WEIGHTS, shards

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def is_hub_name(name: str) -> bool:
    """Whether `name` has the form `owner/model`."""
    return _NAME.fullmatch(name) is not None


def fetch(name: str, revision: str | None) -> Path:
    """The folder in the hub's cache with the configuration and the weights of `name`, downloaded if need be.

    A file of Lightning may stand alone, as it can hold the configuration.

    Raises:
        InputError: the hub has no such checkpoint, or cannot be reached and the cache does not hold it.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    def download(file: str) -> Path:
        return Path(hf_hub_download(name, file, revision=revision))

    missing: list[Exception] = []

    def found(file: str) -> Path | None:
        try:
            return download(file)
        except EntryNotFoundError as error:
            missing.append(error)
            return None

    try:
        for file in WEIGHTS if found("config.json") else LIGHTNING:
            weights = found(file)
            if weights is not None:
                for shard in shards(weights) if file.endswith(".index.json") else ():
                    download(shard)
                return weights.parent
        raise missing[0]
    except InputError:
        raise
    except (OSError, ValueError, EntryNotFoundError) as error:
        raise InputError(_refusal(name, error)) from error


def cached(name: str, revision: str | None = None) -> Path:
    """The folder in the hub's cache that an earlier `fetch` of `name` has filled; nothing is downloaded.

    Raises:
        InputError: the cache does not hold it.
    """
    from huggingface_hub import try_to_load_from_cache

    for file in ("config.json", *LIGHTNING):
        found = try_to_load_from_cache(name, file, revision=revision)
        if isinstance(found, str):
            return Path(found).parent
    raise InputError(
        f"{name}: neither a folder here nor in the cache of the Hugging Face hub. "
        f"To download it: helixwave pretrained fetch {name}"
    )


def _refusal(name: str, error: Exception) -> str:
    reason = str(error).strip().split("\n")[0]
    return (
        f"{name}: there is no such folder here, and it could not be had from the Hugging Face hub "
        f"({type(error).__name__}: {reason}). Where the hub can be reached, `hf download {name} --local-dir FOLDER` "
        f"gets it; then pass the path of the folder, which needs {NEEDED}"
    )
