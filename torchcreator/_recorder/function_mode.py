"""The disguise: recorded tensors, which are on meta, look as if they were where they will be.

A constructor that can tell that it is being recorded may behave otherwise: `torch.nn.init` skips
`trunc_normal_` and others on meta, some libraries skip all of it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from torchcreator._errors import TorchCreatorError
from torchcreator._recorder.answers import ALIKE, ANSWERS, DEEPCOPY, UNASKED, Answer, naming_device
from torchcreator._recorder.dispatch_mode import Recorder
from torchcreator._recorder.fast_paths import SHORTCUTS, passable
from torchcreator._recorder.live_tensors import Handed
from torchcreator._recorder.on_values import (
    NeedsValuesError,
    can_be_called_again,
    on_values,
)
from torchcreator._recorder.pytree import tensors_in
from torchcreator._torch.dispatch import (
    autocast_on,
    no_dispatch_modes,
    no_function_modes,
    not_compiled,
)

Function = Callable[..., Any]


class Disguise(TorchFunctionMode):
    """Answers for recorded tensors where torch would say "meta".

    What fails on them, as torch does it on no such tensors, is called again on their values.

    Args:
        recorder: Logs what is called.

    Attributes:
        handed: The tensors that were returned to the constructor.
    """

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.handed = Handed()
        self._recorder = recorder
        recorder.disguise = self
        self._by_name = not recorder.log.draws.ordered
        self._logged = recorder.log.tape.ops

    @not_compiled
    def __torch_function__(
        self,
        func: Function,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Answer a question about a recorded tensor, or pass the call on."""
        if func in ALIKE:
            return func(*args, **(kwargs or {}))
        kwargs = kwargs or {}
        shortcut = SHORTCUTS.get(func)
        if shortcut is not None and passable():
            result = shortcut(self._recorder, args, kwargs)
            if result is not NotImplemented:
                self.handed.hold(result)
                return result
        if self._by_name:
            self._adopt(func, args[0] if args else kwargs.get("tensor"), sys._getframe(1))
        result = self._answer(func, args, kwargs)
        self.handed.note(result)
        return result

    def _adopt(self, func: Function, value: object, asking: FrameType) -> None:
        """Let a parameter that begins with data be a recorded one before its values are drawn.

        Then they are drawn by its name, which is not known yet.
        """
        if type(value) is nn.Parameter and (func in _DRAWING or asking.f_globals is _INIT):
            with no_function_modes():
                self._recorder.adopt_alone(value)

    def _answer(self, func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        kind = ANSWERS.get(func)
        before, outside = len(self._logged), self._recorder.autocast
        self._recorder.autocast = autocast_on()
        try:
            if self._recorder.autocast:
                self._check_autocast(func, args, kwargs)
            if kind is None and (not kwargs or kwargs.get("device") is None):  # nearly always
                return func(*args, **kwargs)
            return self._special(kind, func, args, kwargs)
        except TorchCreatorError:
            raise
        except Exception as error:
            if not can_be_called_again(self._recorder.log.tape, before, args, kwargs):
                if isinstance(error, NeedsValuesError):
                    self._recorder.log.escape(
                        f"{error} under torch.autocast", next(tensors_in(args, kwargs))
                    )
                raise
        finally:
            self._recorder.autocast = outside
        return on_values(self._recorder.log, func, args, kwargs)

    def _check_autocast(
        self, func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Raise for what autocast knows by the name that it has above torch's dispatcher."""
        name = str(getattr(func, "__name__", func)).strip("_")
        with no_function_modes():
            recorded = filter(self._recorder.log.knows, tensors_in(args, kwargs))
            self._recorder.check_autocast(name, recorded, self._recorder.autocast)

    def _special(
        self, kind: Answer | None, func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if kind and (kind in UNASKED or any(self._is_recorded(value) for value in args[:2])):
            return kind(self._recorder, func, args, kwargs)
        if kind is DEEPCOPY:
            with no_dispatch_modes():  # a real tensor: its copy is real
                return func(*args, **kwargs)
        return naming_device(self._recorder, func, args, kwargs)

    def _is_recorded(self, value: object) -> bool:
        if not isinstance(value, torch.Tensor):
            return False
        with no_function_modes():
            return self._recorder.log.knows(value)


_T = torch.Tensor
_INIT = nn.init.__dict__
_DRAWING: frozenset[Function] = frozenset(
    {
        *(_T.bernoulli_, _T.cauchy_, _T.exponential_, _T.geometric_, _T.log_normal_, _T.normal_),
        *(_T.random_, _T.uniform_, getattr(_T.data, "__get__")),  # noqa: B009 - not the tensor's
        *(function for name, function in vars(nn.init).items() if name[-2:-1] != "_" == name[-1]),
    }
)
"""What draws a parameter's values, or hands out what they may be drawn into."""
