"""The documents' transformer compiled by OpenVINO: the same weights in bf16, faster than torch computes them.

Encoding a corpus is what a CPU spends its hours on, so only the documents' branch is compiled, by who builds
an index: a search starts as fast as without. OpenVINO is an extra (`citemark[openvino]`); it is used where
it is installed and the CPU computes in bf16.
"""

import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

SETTINGS = {"INFERENCE_PRECISION_HINT": "bf16", "PERFORMANCE_HINT": "LATENCY"}


def can_compile(modules: list[Any]) -> bool:
    """Whether OpenVINO is there and the first of a branch's modules is a BERT, which is what was tried."""
    config = getattr(getattr(modules[0], "auto_model", None), "config", None)
    return getattr(config, "model_type", None) == "bert" and find_spec("openvino") is not None


def _hidden(network: Any) -> Any:
    """The network with its last layer's states as its one answer, and no names that OpenVINO must guess."""
    import torch

    class Hidden(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            states: torch.Tensor = self.network(input_ids=input_ids, attention_mask=attention_mask)[0]
            return states

    return Hidden()


def compile_branch(modules: list[Any]) -> None:
    """Let the transformer of a branch (Transformer, Pooling, …) compute with OpenVINO, the rest in fp32."""
    import openvino
    import torch
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    network = modules[0].auto_model.float()
    example = {name: torch.ones((2, 16), dtype=torch.long) for name in ("input_ids", "attention_mask")}
    with warnings.catch_warnings():  # of branches for texts without a mask, which there are not
        warnings.simplefilter("ignore")
        # Not openvino.convert_model, which reports every use to Google Analytics.
        reader = FrontEndManager().load_by_framework("pytorch")
        decoder = TorchScriptPythonDecoder(_hidden(network), example_input=example)
        converted = reader.convert(reader.load(decoder))
    settings = SETTINGS | {"INFERENCE_NUM_THREADS": torch.get_num_threads()}
    request = openvino.Core().compile_model(converted, "CPU", settings).create_infer_request()

    def forward(input_ids: "torch.Tensor", attention_mask: "torch.Tensor", **_: Any) -> Any:
        from transformers.modeling_outputs import BaseModelOutput

        answers = request.infer({0: input_ids.numpy(), 1: attention_mask.numpy()})
        return BaseModelOutput(last_hidden_state=torch.from_numpy(answers[0].copy()))

    network.forward = forward
    for module in modules[1:]:
        module.float()
