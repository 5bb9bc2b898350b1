"""A net whose best class is the largest of the colours around, and pictures of three colours."""

import numpy as np
from PIL import Image

from netspec.proto.model import write_weights

NET = """name: "thirds"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [1, 3, 8, 8] } }
        python_param { param_str: "{'classes': ['red', 'green', 'blue'], 'mean': [0, 0, 0]}" } }
layer { name: "score" type: "Convolution" bottom: "data" top: "score"
        convolution_param { num_output: 3 kernel_size: 3 pad: 1 } }
"""


def thirds(width=12, height=6, order=(0, 1, 2)):
    """A picture of three upright bars, red, green and blue."""
    pixels = np.zeros((height, width, 3), np.uint8)
    for place, channel in enumerate(order):
        pixels[:, place * width // 3 : (place + 1) * width // 3, channel] = 200
    return Image.fromarray(pixels)


def write_thirds(folder, net=NET):
    """net.prototxt and net.caffemodel, and photo.png of thirds."""
    (folder / "net.prototxt").write_text(net)
    kernel = np.full((3, 3, 3, 3), 1 / 900, np.float32) * np.eye(3, dtype=np.float32)[::-1, :, None, None]
    kernel[..., 0] *= 1.5  # not its own mirror image
    write_weights(folder / "net.caffemodel", "thirds", {"score": ("Convolution", [kernel, np.zeros(3, np.float32)])})
    thirds().save(folder / "photo.png")
