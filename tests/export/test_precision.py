import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, numpy_helper

from siamtrt.export.precision import fp16_from_fp32

FP16_MAX = 65504.0
TOLERANCE = 5e-3  # of the largest magnitude; one rounding to FP16 is 5e-4 and the tiny graphs have four layers


def run(model: ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def feeds_of(model: ModelProto) -> dict[str, np.ndarray]:
    """Pixels for the crop, small activations for the kernels."""
    rng = np.random.default_rng(11)
    shapes = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim] for value in model.graph.input}
    top = {"z": 255, "x": 255, "kernel0": 0.5}
    return {name: rng.uniform(0, top[name], shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("graph", ["template", "search"])
def test_fp16_graph_agrees_with_fp32(toy_graphs: dict[str, ModelProto], graph: str) -> None:
    model = toy_graphs[graph]
    feeds = feeds_of(model)
    expected, actual = run(model, feeds), run(fp16_from_fp32(model), feeds)
    assert actual.keys() == expected.keys()
    for name, values in expected.items():
        assert actual[name].dtype == np.float32
        difference = np.abs(actual[name] - values).max()
        assert 0 < difference < TOLERANCE * np.abs(values).max(), name


@pytest.mark.parametrize("graph", ["template", "search"])
def test_only_inputs_and_outputs_stay_fp32(toy_graphs: dict[str, ModelProto], graph: str) -> None:
    half = fp16_from_fp32(toy_graphs[graph])
    onnx.checker.check_model(half)
    for value in (*half.graph.input, *half.graph.output):
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT, value.name
    types = {weight.data_type for weight in half.graph.initializer if weight.name != "sides"}
    assert types == {TensorProto.FLOAT16}


def test_shape_tensors_and_the_operator_keep_their_form(toy_graphs: dict[str, ModelProto]) -> None:
    half = fp16_from_fp32(toy_graphs["search"])
    (sides,) = (numpy_helper.to_array(weight) for weight in half.graph.initializer if weight.name == "sides")
    assert sides.dtype == np.int64
    assert list(half.functions) == list(toy_graphs["search"].functions)


def test_the_given_model_is_not_changed(toy_graphs: dict[str, ModelProto]) -> None:
    before = toy_graphs["search"].SerializeToString(deterministic=True)
    fp16_from_fp32(toy_graphs["search"])
    assert toy_graphs["search"].SerializeToString(deterministic=True) == before


def test_weights_beyond_fp16_are_clamped(toy_graphs: dict[str, ModelProto]) -> None:
    model = ModelProto()
    model.CopyFrom(toy_graphs["template"])
    index = [weight.name for weight in model.graph.initializer].index("template_weight")
    weight = numpy_helper.to_array(model.graph.initializer[index]).copy()
    weight.flat[:3] = 1e6, -1e6, 0.5
    model.graph.initializer[index].CopyFrom(numpy_helper.from_array(weight, "template_weight"))
    half = numpy_helper.to_array(fp16_from_fp32(model).graph.initializer[index])
    np.testing.assert_array_equal(half.flat[:3], [FP16_MAX, -FP16_MAX, 0.5])
