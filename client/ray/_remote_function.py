"""`@ray.remote` on a function."""

from __future__ import annotations

import functools
import inspect
from typing import Any, Callable, Dict, List, Optional, Union

from ray._calls_buffer import gather
from ray._functions import function_name, pickle_function
from ray._options import TASK_OPTIONS, check_options, task_options
from ray._ref import ObjectRef
from ray._runtime import current_session
from ray._serialize import UnpicklableError
from ray._wire import session_pb2 as wire

_FUNCTION_BYTES_MAX = 15 << 20


class RemoteFunction:
    """A function whose calls run on the cluster: `f.remote(...)` gives a reference at once."""

    def __init__(self, function: Callable, options: Dict[str, Any]) -> None:
        if inspect.iscoroutinefunction(function):
            raise ValueError(
                "'async def' should not be used for remote tasks. You can wrap the async function with "
                "`asyncio.run(f())`."
            )
        check_options(options, TASK_OPTIONS, "remote functions")
        self._function = function
        self._defaults = options
        self._returns = _returns(options)
        self._options = task_options(options)
        self._task_name = options.get("name") or ""
        self._session: Any = None
        self._number = 0
        self._captured: List[ObjectRef] = []
        self._signature: Optional[inspect.Signature] = None
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        name = function_name(self._function)
        raise TypeError(
            f"Remote functions cannot be called directly. Instead of running '{name}()', try "
            f"'{name}.remote()'."
        )

    def remote(self, *args: Any, **kwargs: Any) -> Union[None, ObjectRef, List[ObjectRef]]:
        """Run the function somewhere: a reference to its result (a list of them, or None, by num_returns).

        References among the arguments are waited for, and the function gets their values; inside of lists and
        the like they stay references. Raises TypeError for arguments that the function does not take, and for
        what can't be pickled.
        """
        return self._remote(args, kwargs, self._options, self._returns, self._task_name)

    def options(self, **options: Any) -> "_WithOptions":
        """The same function with other options for the calls made through the result."""
        check_options(options, TASK_OPTIONS, "remote functions")
        return _WithOptions(self, {**self._defaults, **options})

    def bind(self, *args: Any, **kwargs: Any) -> Any:
        """Raises NotImplementedError: graphs are Dask's."""
        raise NotImplementedError("f.bind() is not supported; use f.remote(), or dask.delayed for graphs")

    def _remote(
        self, args: tuple, kwargs: Dict[str, Any], options: Optional[wire.TaskOptions], returns: int,
        name: str,
    ) -> Union[None, ObjectRef, List[ObjectRef]]:
        session = current_session()
        if session is not self._session:
            self._introduce(session)
        if kwargs or self._checks_arguments:
            self._check_arguments(args, kwargs)
        refs = gather(
            session, self._number, args, kwargs, options, returns, name, self.__name__
        )
        if returns == 1:
            return refs[0]
        return refs if returns else None

    @property
    def _checks_arguments(self) -> bool:
        if self._signature is None:
            try:
                self._signature = inspect.signature(self._function)
            except (ValueError, TypeError):
                self._signature = inspect.Signature(
                    [
                        inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL),
                        inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD),
                    ]
                )
            kinds = [parameter.kind for parameter in self._signature.parameters.values()]
            self._positional_max = (
                None if inspect.Parameter.VAR_POSITIONAL in kinds
                else sum(
                    kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
                    for kind in kinds
                )
            )
            self._positional_min = sum(
                parameter.default is inspect.Parameter.empty
                and parameter.kind
                in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
                for parameter in self._signature.parameters.values()
            )
            self._has_required_keywords = any(
                parameter.default is inspect.Parameter.empty
                and parameter.kind is inspect.Parameter.KEYWORD_ONLY
                for parameter in self._signature.parameters.values()
            )
        return True

    def _check_arguments(self, args: tuple, kwargs: Dict[str, Any]) -> None:
        """Raises TypeError for a call that can't be, here and not on a worker."""
        if self._checks_arguments and not kwargs and not self._has_required_keywords:
            if self._positional_min <= len(args) and (
                self._positional_max is None or len(args) <= self._positional_max
            ):
                return
        assert self._signature is not None
        self._signature.bind(*args, **kwargs)

    def _introduce(self, session: Any) -> None:
        """Make the function known to a session that has not seen it."""
        name = function_name(self._function)
        try:
            pickled, contained = pickle_function(self._function)
        except UnpicklableError as error:
            raise TypeError(f"the remote function {name} can't be sent to workers: {error}") from error
        if len(pickled) > _FUNCTION_BYTES_MAX:
            raise ValueError(
                f"The remote function {name} is too large ({len(pickled) >> 20} MiB). Check that its "
                "definition does not capture a large array or other object; pass it by ray.put() instead."
            )
        # What it closes over has to live as long as it may be called.
        self._captured = [ObjectRef(id) for id in contained]
        self._number = session.functions.intern_pickled(pickled, name)
        self._session = session

    def __reduce__(self) -> tuple:
        return RemoteFunction, (self._function, self._defaults)


class _WithOptions:
    """What `f.options(...)` gives."""

    def __init__(self, function: RemoteFunction, options: Dict[str, Any]) -> None:
        self._function = function
        self._defaults = options
        self._returns = _returns(options)
        self._options = task_options(options)
        self._task_name = options.get("name") or ""

    def remote(self, *args: Any, **kwargs: Any) -> Union[None, ObjectRef, List[ObjectRef]]:
        """As RemoteFunction.remote, with these options."""
        return self._function._remote(args, kwargs, self._options, self._returns, self._task_name)

    def options(self, **options: Any) -> "_WithOptions":
        """These options, and others besides or in their place."""
        check_options(options, TASK_OPTIONS, "remote functions")
        return _WithOptions(self._function, {**self._defaults, **options})


def _returns(options: Dict[str, Any]) -> int:
    returns = options.get("num_returns")
    return 1 if returns is None else returns
