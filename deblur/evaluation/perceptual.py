"""LPIPS, the distance of two photographs in the features of a network trained to see."""

from __future__ import annotations

import contextlib
import http.client
import io
import pickle
import socket
import threading
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

import torch
from torch import Tensor, nn

from deblur.data.download import DEADLINE_SECONDS, first_to_answer
from deblur.errors import ArgumentError, UsageError

SMALLEST = 64  # pixels of a side: the patches on which people were asked, and the distance was fitted

_setting_up = threading.Lock()  # the download, standard error and the sockets' timeout are the whole process's


def lpips(images: Tensor, sharp: Tensor) -> Tensor:
    """The learned perceptual distance of each pair of photographs, (B,), 0 for the sharp one; both clamped to [0, 1].

    Source: R. Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018; the
    version with AlexNet, by torchmetrics, which brings the fitted weights. Those of AlexNet (233 MB) are downloaded
    at the first use to torch.hub's folder.

    Args:
        images: (B, C, H, W), the images to judge: 3 channels, or 1, which is then taken for all three.
        sharp: (B, C, H, W), the truth.

    Raises:
        ArgumentError: the images are smaller than 64x64 pixels, or have neither 1 nor 3 channels.
        UsageError: the weights are not there and cannot be downloaded, or are damaged.
    """
    if images.shape[1] not in (1, 3) or min(images.shape[-2:]) < SMALLEST:
        allowed = f"photographs of 1 or 3 channels and at least {SMALLEST}x{SMALLEST} pixels"
        raise ArgumentError("images", tuple(images.shape), allowed)
    network = prepare(images.device)
    both = [side.float().clamp(0, 1).expand(-1, 3, -1, -1) for side in (images, sharp)]
    with torch.inference_mode(), torch.autocast(images.device.type, enabled=False):
        parts = [
            network(*pair, normalize=True).flatten() for pair in zip(*(side.split(1) for side in both), strict=True)
        ]
    return torch.cat(parts)


def prepare(device: torch.device) -> nn.Module:
    """The network of the distance on a device; of several threads that ask for it, one sets it up.

    While it does, standard error and the timeout of sockets are others for the whole process: call it before threads
    start that need those.

    Raises:
        UsageError: the weights are not there and cannot be downloaded, or are damaged.
    """
    with _setting_up:
        return _network(torch.empty(0, device=device).device)  # with its index, as tensors there have it


@lru_cache(maxsize=1)
def _network(device: torch.device) -> nn.Module:
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
    from torchvision.models import AlexNet_Weights

    url = AlexNet_Weights.DEFAULT.url
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(url).path).name
    if not file.is_file() and first_to_answer([url]) is None:
        raise UsageError(_missing(file, url, "cannot be reached"))
    there, timeout = file.is_file(), socket.getdefaulttimeout()
    socket.setdefaulttimeout(DEADLINE_SECONDS)  # torch.hub gives its downloads none
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # torch.hub's own progress bar
            network = LearnedPerceptualImagePatchSimilarity(net_type="alex").net
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError, http.client.HTTPException) as error:
        if there:
            raise UsageError(f"lpips: {file} cannot be read; delete it to download it again") from error
        raise UsageError(_missing(file, url, f"failed ({error})")) from error
    finally:
        socket.setdefaulttimeout(timeout)
    return network.to(device)


def _missing(file: Path, url: str, what: str) -> str:
    return f"lpips: AlexNet's weights are not there, and {url} {what}; put that file at {file}, or leave lpips out"
