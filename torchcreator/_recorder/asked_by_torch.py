"""What torch's own code asks about a recorded tensor, and has to be told otherwise than others."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from torch import nn

from torchcreator._recorder.dispatch_mode import Recorder

Function = Callable[..., Any]


def _asking(frame: FrameType) -> FrameType:
    """Return the frame that asked what a mode's ``__torch_function__`` answers.

    Modes that were opened later, `torch.device` as a context among them, have passed it on.
    """
    while frame.f_code.co_name == "__torch_function__" and frame.f_back is not None:
        frame = frame.f_back
    return frame


def is_cuda(recorder: Recorder, func: Function, args: Any, kwargs: Any) -> bool:
    """Answer no to `nn.LSTM.flatten_parameters`, which is called again when there is memory."""
    if _asking(sys._getframe(3)).f_code is nn.RNNBase.flatten_parameters.__code__:
        return False
    return recorder.log.device_of(args[0]).type == "cuda"


def is_meta(recorder: Recorder, func: Function, args: Any, kwargs: Any) -> bool:
    """Answer no, except to the functions of `torch.nn.init` that return early on meta.

    Their control flow depends on the numbers drawn (`trunc_normal_` rejects and draws again), so
    each is logged as one operation.
    """
    frame = _asking(sys._getframe(3))  # 1 is _special, 2 is _answer
    if frame.f_globals is not nn.init.__dict__:
        return False
    code, values = frame.f_code, frame.f_locals
    words = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    tensor, *options = words
    function = getattr(nn.init, code.co_name)
    if recorder.keeps(values[tensor]):
        return False  # it draws as often as without a recorder, and writes nothing
    recorder.log.call(function, values[tensor], {word: values[word] for word in options})
    return True
