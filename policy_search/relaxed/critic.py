"""The critic: a small strided network that scores images, alone or together with their binary masks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Critic(nn.Module):
    """Scores images with their masks; higher means more like the real ones.

    Without normalisation layers, which would tie the samples of a batch together and void a gradient penalty per
    sample. Pooled are the mean *and* the standard deviation of each feature: texture shows in the second.

    Args:
        channels: of the image, 1 or 3.
        mean, deviation: of the data set's pixels, in [0, 1]. Phase contrast has a deviation near 0.05: dividing by it
            is what makes texture, scale and blur visible beside a shift in brightness.
        masks: planes of the mask, 0 for a critic that sees images alone.
        widths: channels of the strided 3x3 convolutions. A fourth, which leaves nine positions of a crop of 96 pixels,
            no longer finds a change of size.
        stem: side of the blocks of pixels that `standardise` folds into channels, in front of the convolutions.
        generator: draws the weights.
    """

    def __init__(
        self,
        channels: int,
        mean: float,
        deviation: float,
        *,
        generator: torch.Generator,
        masks: int = 1,
        widths: Sequence[int] = (16, 32, 128),
        stem: int = 4,
    ) -> None:
        super().__init__()
        self.channels, self.masks, self.stem = channels, masks, stem
        self.mean, self.deviation = mean, deviation
        layers: list[nn.Module] = []
        width = (channels + masks) * stem**2
        for next_width in widths:
            # skip_init: the layers' own initialisation would draw from the global generator.
            conv = nn.utils.skip_init(nn.Conv2d, width, next_width, 3, stride=2, padding=1)
            layers += [conv, nn.LeakyReLU(0.2)]
            width = next_width
        self.features = nn.Sequential(*layers)
        self.score = nn.utils.skip_init(nn.Linear, 2 * width, 1)
        initialise(self, generator)
        self.to(memory_format=torch.channels_last)

    def standardise(self, image: Tensor, mask: Tensor) -> Tensor:
        """Image (B, C, H, W) and mask (B, M, H, W) as one network input (B, (C + M) stem^2, H / stem, W / stem).

        Folded here and not in `forward`: a step reads every input several times, and folding is a fifth of a reading.
        What is left over where the stem does not divide H or W is cut off. With `masks` 0 the mask is not read.
        """
        pair = (image - self.mean) / self.deviation
        return fold(torch.cat([pair, 2 * mask - 1], 1) if self.masks else pair, self.stem)

    def forward(self, pair: Tensor) -> Tensor:
        """Scores (B,) of what `standardise` gives."""
        score: Tensor = self.score(pool(self.features(pair)))
        return score[:, 0].float()


def fold(image: Tensor, block: int) -> Tensor:
    """(B, C, H, W) to (B, C block^2, H / block, W / block), blocks of pixels as channels, channels last in memory.

    What torch's pixel unshuffle gives, in the order of memory in which convolutions (and their second derivative) are
    faster.
    """
    batch, channels = image.shape[:2]
    height, width = (side // block for side in image.shape[2:])
    image = image[:, :, : height * block, : width * block]
    blocks = image.reshape(batch, channels, height, block, width, block).permute(0, 2, 4, 1, 3, 5)
    return blocks.reshape(batch, height, width, channels * block**2).permute(0, 3, 1, 2)


def pool(features: Tensor) -> Tensor:
    """(B, F, H, W) to (B, 2 F): mean and standard deviation over the image."""
    features = features.float()  # half precision, where it is used, is too coarse for a variance
    # The constant keeps the root differentiable, twice, where a feature is flat.
    deviation = torch.sqrt(features.var((2, 3), unbiased=False) + 1e-4)
    return torch.cat([features.mean((2, 3)), deviation], 1)


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Kaiming-uniform weights for LeakyReLU(0.2) and zero biases, from the generator alone."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_uniform_(layer.weight, a=0.2, generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class RandomFeatures(nn.Module):
    """A frozen random network whose feature space measures how far apart two augmented images are.

    Same reading of the image as the critic's, but never trained: a distance that the search cannot game. `calibrate`
    scales every feature by its deviation over real images, so that no feature outshouts the others.

    Args:
        critic: whose standardised input it reads.
        generator: draws the weights.
    """

    scale: Tensor

    def __init__(self, critic: Critic, *, generator: torch.Generator) -> None:
        super().__init__()
        self.body = Critic(
            critic.channels,
            critic.mean,
            critic.deviation,
            generator=generator,
            masks=critic.masks,
            widths=(32, 64),
            stem=critic.stem,
        ).features
        self.register_buffer("scale", torch.ones(128))
        self.requires_grad_(False)

    @torch.no_grad()
    def calibrate(self, pair: Tensor) -> None:
        """Set the features' scale from standardised real pairs (at least two)."""
        self.scale = pool(self.body(pair)).std(0) + 1e-3

    def forward(self, pair: Tensor) -> Tensor:
        """(B, 128) scaled features of what the critic's `standardise` gives."""
        return pool(self.body(pair)) / self.scale
