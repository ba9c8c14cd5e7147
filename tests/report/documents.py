"""Documents as `torchcreator inspect --json` prints them, for the tests of the page."""

from __future__ import annotations

from math import prod

BYTES = {"float32": 4, "bfloat16": 2, "int64": 8}


def variable(name, shape=(2, 3), *, module_type="Linear", dtype="float32", **more):
    """Describe one variable; whatever is not given is as in a plain model."""
    elements = prod(shape)
    plain = {
        "name": name,
        "module": name.rpartition(".")[0],
        "module_type": module_type,
        "shape": list(shape),
        "dtype": dtype,
        "device": "meta",
        "elements": elements,
        "bytes": elements * BYTES[dtype],
        "trainable": True,
        "constraint": None,
        "synchronization": "AUTO",
        "aggregation": "NONE",
        "declared": False,
        "ties": [],
        "tags": {},
        "creators": [],
    }
    return plain | more


def creator(name, *, answered=False, **changed):
    """Describe what a creator did: `trainable=("True", "False")`."""
    return {
        "creator": name,
        "changed": {k: list(v) for k, v in changed.items()},
        "answered": answered,
    }


def document(variables, *, model="package.models:make"):
    """Describe a model of these variables."""
    trainable = [it for it in variables if it["trainable"]]
    return {
        "format": 1,
        "torchcreator": "0.1.0",
        "torch": "2.13.0",
        "model": model,
        "variables": variables,
        "totals": {
            "variables": len(variables),
            "elements": sum(it["elements"] for it in variables),
            "bytes": sum(it["bytes"] for it in variables),
            "trainable_elements": sum(it["elements"] for it in trainable),
            "trainable_bytes": sum(it["bytes"] for it in trainable),
            "by_module": [],
            "by_dtype": [],
            "by_trainable": [],
        },
    }


BLOCK = [
    ("ln_1.weight", (768,), "LayerNorm"),
    ("ln_1.bias", (768,), "LayerNorm"),
    ("attn.c_attn.weight", (768, 2304), "Conv1D"),
    ("attn.c_attn.bias", (2304,), "Conv1D"),
    ("attn.c_proj.weight", (768, 768), "Conv1D"),
    ("attn.c_proj.bias", (768,), "Conv1D"),
    ("ln_2.weight", (768,), "LayerNorm"),
    ("ln_2.bias", (768,), "LayerNorm"),
    ("mlp.c_fc.weight", (768, 3072), "Conv1D"),
    ("mlp.c_fc.bias", (3072,), "Conv1D"),
    ("mlp.c_proj.weight", (3072, 768), "Conv1D"),
    ("mlp.c_proj.bias", (768,), "Conv1D"),
]


def transformer(layers=12, *, policies=True):
    """Describe GPT-2, plain or under the policies of a fine-tuning."""
    shapes = [
        ("transformer.wte.weight", (50257, 768), "Embedding"),
        ("transformer.wpe.weight", (1024, 768), "Embedding"),
        *((f"transformer.h.{n}.{name}", *rest) for n in range(layers) for name, *rest in BLOCK),
        ("transformer.ln_f.weight", (768,), "LayerNorm"),
        ("transformer.ln_f.bias", (768,), "LayerNorm"),
    ]
    variables = [variable(name, shape, module_type=kind) for name, shape, kind in shapes]
    variables[0]["ties"] = ["lm_head.weight"]
    if policies:
        for it in variables:
            _apply(it)
    return document(variables, model="transformers:GPT2LMHeadModel")


def _apply(it):
    """Freeze the embeddings, cast the matrices, constrain one of each block, by creators."""
    if it["module_type"] == "Embedding":
        it["trainable"] = False
        it["creators"].append(creator("freeze", trainable=("True", "False")))
    if it["module_type"] == "Conv1D" and it["name"].endswith("weight"):
        it["creators"].append(creator("cast", dtype=("float32", "bfloat16")))
        it |= {"dtype": "bfloat16", "bytes": it["elements"] * 2}
    if it["name"].endswith("mlp.c_proj.weight"):
        it["creators"].append(creator("constrained", constraint=("None", "max_norm(2.0)")))
        it["constraint"] = "max_norm(2.0)"
    if ".ln_" in it["name"]:
        it["tags"]["group"] = "no decay"
        it["creators"].append(creator("tagged", tags=("{}", "{'group': 'no decay'}")))


def comparison():
    """Return a model and what it was before: one variable added, one removed, two changed."""
    before = [
        variable("kept", (4, 4)),
        variable("cast", (64, 64)),
        variable("frozen", (32, 32)),
        variable("gone", (16, 16)),
    ]
    after = [
        variable("kept", (4, 4)),
        variable("cast", (64, 64), dtype="bfloat16", tags={"stage": "1"}),
        variable("frozen", (32, 32), trainable=False,
                 creators=[creator("freeze", trainable=("True", "False"))]),
        variable("new", (8, 8)),
    ]  # fmt: skip
    return document(after), document(before)
