"""The critic: a small strided network that scores images together with their binary masks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Critic(nn.Module):
    """Scores [image, mask] pairs; higher means more like the real ones.

    Without normalisation layers, which would tie the samples of a batch together and void a gradient penalty per
    sample. Pooled are the mean *and* the standard deviation of each feature: texture shows in the second.

    Args:
        channels: of the image, 1 or 3.
        mean, deviation: of the data set's pixels, in [0, 1]. Phase contrast has a deviation near 0.05: dividing by it
            is what makes texture, scale and blur visible beside a shift in brightness.
        widths: channels of the strided 3x3 convolutions.
        stem: factor of the pixel unshuffle in front of them.
        generator: draws the weights.
    """

    def __init__(
        self,
        channels: int,
        mean: float,
        deviation: float,
        *,
        generator: torch.Generator,
        widths: Sequence[int] = (16, 32, 64, 128),
        stem: int = 2,
    ) -> None:
        super().__init__()
        self.mean, self.deviation = mean, deviation
        layers: list[nn.Module] = [nn.PixelUnshuffle(stem)]
        width = (channels + 1) * stem**2
        for next_width in widths:
            # skip_init: the layers' own initialisation would draw from the global generator.
            conv = nn.utils.skip_init(nn.Conv2d, width, next_width, 3, stride=2, padding=1)
            layers += [conv, nn.LeakyReLU(0.2)]
            width = next_width
        self.features = nn.Sequential(*layers)
        self.score = nn.utils.skip_init(nn.Linear, 2 * width, 1)
        initialise(self, generator)

    def standardise(self, image: Tensor, mask: Tensor) -> Tensor:
        """Image (B, C, H, W) and mask (B, 1, H, W) as one network input (B, C + 1, H, W)."""
        return torch.cat([(image - self.mean) / self.deviation, 2 * mask - 1], 1)

    def forward(self, pair: Tensor) -> Tensor:
        """Scores (B,) of standardised pairs (B, C + 1, H, W); H and W are multiples of the stem."""
        score: Tensor = self.score(pool(self.features(pair)))
        return score[:, 0]


def pool(features: Tensor) -> Tensor:
    """(B, F, H, W) to (B, 2 F): mean and standard deviation over the image."""
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

    Same reading of the image as the critic, but never trained: a distance that the search cannot game. `calibrate`
    scales every feature by its deviation over real images, so that no feature outshouts the others.
    """

    def __init__(self, channels: int, mean: float, deviation: float, *, generator: torch.Generator) -> None:
        super().__init__()
        self.body = Critic(channels, mean, deviation, generator=generator, widths=(16, 32, 64))
        self.register_buffer("scale", torch.ones(128))
        self.requires_grad_(False)

    @torch.no_grad()
    def calibrate(self, image: Tensor, mask: Tensor) -> None:
        """Set the features' scale from real pairs (at least two)."""
        self.scale = pool(self.body.features(self.body.standardise(image, mask))).std(0) + 1e-3

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """(B, 128) scaled features."""
        return pool(self.body.features(self.body.standardise(image, mask))) / self.scale
