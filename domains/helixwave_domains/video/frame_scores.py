"""How near predicted frames come to true ones, by the number of the frame."""

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

# no frame counts as nearer than 100 dB
_LEAST_ERROR = 1e-10


class FrameScores:
    """PSNR and SSIM, the means over all frames of all clips, and both of single frames.

    Args:
        horizons: frames that are scored alone as `psnr_N` and `ssim_N`, counted from 1; later ones than there are are
            left out.
    """

    def __init__(self, horizons: list[int]):
        self.horizons = horizons
        self.reset()

    def reset(self) -> None:
        self.frames: list[Tensor] = []

    def update(self, outputs: Tensor, target: Tensor) -> None:
        """Predicted and true frames `[M, T, C, H, W]`, values from 0 to 1; a frame with NaN is not scored."""
        outputs, target = outputs.detach().float(), target.detach().float()
        self.frames.append(torch.stack([psnr(outputs, target), ssim(outputs, target)]).cpu())

    def by_frame(self) -> dict[str, Tensor]:
        """The means over clips for each frame, `[T]`."""
        psnr_of, ssim_of = torch.cat(self.frames, dim=1).nanmean(dim=1)
        return {"psnr": psnr_of, "ssim": ssim_of}

    def compute(self) -> dict[str, Tensor]:
        found = self.by_frame()
        single = {
            f"{name}_{n}": values[n - 1] for name, values in found.items() for n in self.horizons if n <= len(values)
        }
        return {**{name: values.nanmean() for name, values in found.items()}, **single}


def psnr(outputs: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each frame in dB: `[M, T, C, H, W]` -> `[M, T]`."""
    return -10 * (outputs - target).square().mean((-3, -2, -1)).clamp(min=_LEAST_ERROR).log10()


def ssim(outputs: Tensor, target: Tensor) -> Tensor:
    """Structural similarity of each frame: `[M, T, C, H, W]` -> `[M, T]`.

    Source: Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", 2004, section III.
    """
    values = structural_similarity_index_measure(
        outputs.flatten(0, 1), target.flatten(0, 1), data_range=1.0, reduction="none"
    )
    assert isinstance(values, Tensor)
    return values.view(outputs.shape[:2])
