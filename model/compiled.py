"""The documents' branch compiled by OpenVINO: the same weights in bf16, faster than torch computes them.

Encoding a corpus is what a CPU spends its hours on, so only the documents' branch is compiled, by who builds
an index: a search starts as fast as without. OpenVINO is an extra (`citemark[openvino]`); it is used where
it is installed and the CPU computes in bf16.

The library sorts texts by their characters and gives each few of them to the tokenizer; of the numbers that
a batch of eight abstracts then takes through the network a tenth is padding. Here all texts of a call are
tokenised at once and sorted by their tokens (.7%), and each core computes batches of its own.
"""

import warnings
from importlib.util import find_spec
from typing import Any

import numpy as np

TOGETHER = 512  # texts that are tokenised and sorted together; it decides the low bits of a vector
BATCH = 8  # texts that pass the network together


def can_compile(modules: list[Any]) -> bool:
    """Whether OpenVINO is there, and a branch begins with what was tried: a BERT, pooling all its tokens."""
    config = getattr(getattr(modules[0], "auto_model", None), "config", None)
    is_tried = getattr(config, "model_type", None) == "bert" and any(
        getattr(module, "include_prompt", False) for module in modules[1:2]
    )
    return is_tried and find_spec("openvino") is not None


def _pooled(network: Any, pooling: Any) -> Any:
    """Both as one network with one answer, and no names that OpenVINO must guess."""
    import torch

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.pooling = network, pooling

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            states = self.network(input_ids=input_ids, attention_mask=attention_mask)[0]
            features = self.pooling({"token_embeddings": states, "attention_mask": attention_mask})
            vectors: torch.Tensor = features["sentence_embedding"]
            return vectors

    return Pooled().float()


def compile_branch(modules: list[Any]) -> None:
    """Let OpenVINO compute the first modules of a branch, Transformer and Pooling; the rest is in fp32."""
    import openvino
    import torch
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    transformer, pooling, *rest = modules
    example = {name: torch.ones((2, 16), dtype=torch.long) for name in ("input_ids", "attention_mask")}
    with warnings.catch_warnings():  # of branches for texts without a mask, which there are not
        warnings.simplefilter("ignore")
        # Not openvino.convert_model, which reports every use to Google Analytics.
        reader = FrontEndManager().load_by_framework("pytorch")
        decoder = TorchScriptPythonDecoder(_pooled(transformer.auto_model, pooling), example_input=example)
        converted = reader.convert(reader.load(decoder))
    cores = torch.get_num_threads()
    settings = {"INFERENCE_PRECISION_HINT": "bf16", "NUM_STREAMS": cores, "INFERENCE_NUM_THREADS": cores}
    compiled = openvino.Core().compile_model(converted, "CPU", settings)
    queue = openvino.AsyncInferQueue(compiled, cores)
    queue.set_callback(lambda request, found: found.append(request.get_output_tensor(0).data.copy()))

    def forward(features: dict[str, Any], **_: Any) -> dict[str, Any]:
        ids, mask = features["input_ids"].numpy(), features["attention_mask"].numpy()
        order = np.argsort(-mask.sum(axis=1), kind="stable")  # the longest first, so that cores end together
        batches: list[tuple[Any, list[Any]]] = []
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            width = np.flatnonzero(mask[rows].any(axis=0))[-1] + 1
            batches.append((rows, []))
            queue.start_async({0: ids[rows, :width], 1: mask[rows, :width]}, batches[-1][1])
        queue.wait_all()
        vectors = np.concatenate([found for _, (found,) in batches])[np.argsort(order, kind="stable")]
        return features | {"sentence_embedding": torch.from_numpy(vectors)}

    transformer.forward = forward
    pooling.forward = lambda features, **_: features
    for module in rest:
        module.float()
