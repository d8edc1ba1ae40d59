"""Published weights in models of ours."""

from pathlib import Path
from typing import Any

import torch

from helixwave.errors import InputError, nearest
from helixwave.pretrained.families import Published, family_named, family_of
from helixwave.pretrained.files import NEEDED, read_config, read_weights
from helixwave.pretrained.hub import fetch, is_hub_name
from helixwave.pretrained.rules import fill
from helixwave.pretrained.settings import Settings

__all__ = ["load_pretrained"]


def load_pretrained(
    name: str | Path,
    *,
    revision: str | None = None,
    family: str | None = None,
    dtype: torch.dtype = torch.float32,
    **options: Any,
) -> Any:
    """A model of ours with published weights, in evaluation mode; it computes what the published code computes.

    What is read: Mamba-1 and Mamba-2 (`state-spaces` and transformers), xLSTM block stacks and xLSTM-large (the package
    `xlstm` and transformers), S4D standalone layers, HyenaDNA, Caduceus, TiRex, VideoMamba, and what other
    packages register. Every tensor must be there, be known and have the right shape. Nothing in a file is executed.

        load_pretrained("state-spaces/mamba-130m")                       # Mamba-1, the authors' layout
        load_pretrained("state-spaces/mamba-130m-hf")                    # Mamba-1, that of transformers
        load_pretrained("state-spaces/mamba2-130m")                      # Mamba-2
        load_pretrained("runs/xlstm", slstm_backend="cuda")              # xLSTM block stack, weights of the CUDA cell
        load_pretrained("NX-AI/xLSTM-7b", dtype=torch.bfloat16)          # xLSTM-large, 7 billion parameters
        load_pretrained("model.pt", family="s4d", prefix="s4_layers.0.") # one S4D layer of a larger model
        load_pretrained("LongSafari/hyenadna-small-32k-seqlen-hf")       # HyenaDNA
        load_pretrained("kuleshov-group/PlantCaduceus_l20")              # Caduceus
        load_pretrained("NX-AI/TiRex")                                   # TiRex
        load_pretrained("videomamba_t16_k400_f16.pth", n_frame=32)       # VideoMamba, for clips of other lengths

    A token model can be saved with `helixwave.checkpoint.save` and is then read with `helixwave.load`. The names of its
    classes are the tokens' ids, where no more is published.

    Args:
        name: a folder with `config.json` and `model.safetensors` (or shards and their index), `pytorch_model.bin` or a
            single `*.pt` or `*.ckpt`; the path of a file of weights; or a name on the Hugging Face hub. Where there is
            no `config.json`, what Lightning keeps as `hyper_parameters` is the configuration.
        revision: branch, tag or commit on the hub.
        family: the published layout. None: what `model_type` in the configuration says, or the tensors' names tell.
        dtype: of the parameters.
        options: what the family knows beside its configuration: `slstm_backend` (`vanilla` or `cuda`) of
            `xlstm_block_stack`, `prefix` of `s4d`, `shift`, `l_max` and `stateful` of `hyenadna`, `n_frame`,
            `size`, `tubelet` and `order` of `video_mamba`.

    Returns:
        a `TokenModel`, of DNA a `DNALanguageModel` or `SequenceClassifier`, of time series a `TiRex`, of clips a
        `VideoMamba`; for an xLSTM
        stack without embedding a `Backbone`, for S4D the block or an `nn.ModuleList`.

    Raises:
        InputError: nothing there, a family that is not known, tensors that do not fit, or a file that holds code.
    """
    path = _local(name, revision)
    found, published = open_published(path, family, options)
    return build_published(found, published, dtype)


def open_published(
    path: Path, family: str | None = None, options: dict[str, Any] | None = None
) -> tuple[str, Published]:
    """The family of the checkpoint at `path`, and the checkpoint as it is; see `load_pretrained`."""
    config, where = read_config(path if path.is_dir() else path.parent)
    tensors, arguments = read_weights(path)
    settings = Settings(arguments | config, where if config or not arguments else f"{path}: hyper_parameters")
    found = family_of(family, settings, tensors, str(path))
    known = family_named(found).options
    for option in options or {}:
        if option not in known:
            raise InputError(f"load_pretrained: {found} has no option {option!r}. {nearest(option, known)}")
    return found, Published(str(path), settings, tensors, options or {})


def build_published(family: str, published: Published, dtype: torch.dtype = torch.float32) -> Any:
    """The model of a checkpoint that `open_published` has opened."""
    # the weights that a model starts with are drawn in vain; a seeded run around this call goes on as if they were not
    with torch.random.fork_rng(devices=[]):
        model, rules = family_named(family)().plan(published)
    fill(model.to(dtype), rules, published.tensors, published.where)
    return model.eval()


def _local(name: str | Path, revision: str | None) -> Path:
    path = Path(name).expanduser()
    if path.exists():
        return path
    if isinstance(name, str) and is_hub_name(name):
        return fetch(name, revision)
    raise InputError(f"{name}: there is no such folder. Expected one with {NEEDED}; or a hub name OWNER/MODEL")
