"""Pictures segmented as one writes it without netspec: `netspec time infer` holds `netspec infer` against it,
nothing uses it.

python -m netspec.papers.whole_plain JOB.json, which says: pictures (files), out (folder), mean (B, G, R),
palette (the classes' colours), engine ("torch" or an engine's name), precision, threads, and model: an ONNX
file with its input and output, or for torch a file of FCN's arguments and weights.
"""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

Best = Callable[[np.ndarray], np.ndarray]  # images (1, 3, H, W), float32 -> the best classes (H, W)


def main(job: Mapping[str, Any]) -> None:
    """Write NAME_labels.png and NAME_overlay.png of each picture."""
    run = _torch(job) if job["engine"] == "torch" else _engine(job)
    mean, palette = np.array(job["mean"], np.float32), np.array(job["palette"], np.uint8)
    for path in map(Path, job["pictures"]):
        pixels = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
        inputs = (pixels[..., ::-1] - mean).transpose(2, 0, 1)
        best = run(np.ascontiguousarray(inputs[None])).astype(np.uint8)
        labels = Image.fromarray(best)
        labels.putpalette(palette.tobytes())
        labels.save(f"{job['out']}/{path.stem}_labels.png")
        overlay = pixels * np.float32(0.45) + palette[best] * np.float32(0.55)
        Image.fromarray(overlay.astype(np.uint8)).save(f"{job['out']}/{path.stem}_overlay.png")


def _torch(job: Mapping[str, Any]) -> Best:
    import torch

    from .plain import FCN

    torch.set_num_threads(job["threads"])
    held = torch.load(job["model"], mmap=True, weights_only=True)
    with torch.device("meta"):
        net = FCN(*held["arguments"]).eval()
    net.load_state_dict(held["weights"], assign=True)

    def best(image: np.ndarray) -> np.ndarray:
        with torch.inference_mode(), torch.autocast("cpu", enabled=job["precision"] == "bf16"):
            scores = net(torch.from_numpy(image).contiguous(memory_format=torch.channels_last))
            return scores[0].argmax(0).numpy()

    return best


def _engine(job: Mapping[str, Any]) -> Best:
    from ..convert import engines

    run = engines.open(job["engine"], Path(job["model"]), job["threads"], job["precision"])

    def best(image: np.ndarray) -> np.ndarray:
        return run({job["input"]: image})[job["output"]][0].argmax(0)

    return best


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
