"""What frame prediction is compared with."""

import torch
from helixwave.data.source import Source
from torch import Tensor


class CopyLastFrame:
    """Nothing moves: the last frame that is given, again and again."""

    description = "the last frame that is given, for every frame that follows"

    def predict(self, source: Source) -> tuple[Tensor, Tensor]:
        """Predicted and true frames of the test split, `[M, T, C, H, W]`."""
        examples = [source.test.example(index, None) for index in range(len(source.test))]
        target = torch.stack([torch.as_tensor(example["target"]) for example in examples])
        last = torch.stack([torch.as_tensor(example["inputs"][-1]) for example in examples])
        return last.unsqueeze(1).expand_as(target), target
