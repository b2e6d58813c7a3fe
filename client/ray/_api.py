"""put, get, wait, remote, cancel and kill: what `import ray` gives for objects, functions and actors."""

from __future__ import annotations

import inspect
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

from ray._actor import ActorClass, ActorHandle
from ray._ref import ObjectRef, adopt
from ray._remote_function import RemoteFunction
from ray._runtime import current_session
from ray._serialize import UnpicklableError, serialize
from ray._values import get_values

# ---------------------------------------------------------------- objects


def put(value: Any, *, _owner: Any = None) -> ObjectRef:
    """Make an object of a value: a reference to it, which tasks and actors may be given. `_owner` is ignored.

    Raises TypeError for what can't be pickled, and for an ObjectRef; ObjectStoreFullError if there is no room.
    """
    if isinstance(value, ObjectRef):
        raise TypeError(
            "Calling 'put' on an ray.ObjectRef is not allowed. If you really want to do this, you can wrap "
            "the ray.ObjectRef in a list and call 'put' on it."
        )
    session = current_session()
    try:
        serialized = serialize(value)
    except UnpicklableError as error:
        raise TypeError(f"Could not serialize the put value {value!r:.200}: {error}") from error
    return adopt(session.put(serialized), session.references)


def get(
    refs: Union[ObjectRef, Sequence[ObjectRef]], *, timeout: Optional[float] = None
) -> Any:
    """The value of a reference, or the list of values of a list of them. Buffers are read-only.

    `timeout` in seconds; None: as long as it takes; 0: only what is there now. Raises GetTimeoutError (a
    TimeoutError), and what a task raised: an error that is both RayTaskError and of the class that the task
    raised. ValueError for a negative `timeout`, and for anything but references.
    """
    if timeout is not None and timeout < 0:
        raise ValueError(f"The 'timeout' argument must be nonnegative. Received {timeout}")
    if type(refs) is ObjectRef:
        return get_values(current_session(), (refs,), timeout)[0]
    if not isinstance(refs, list):
        hint = " Of a Dask collection, call .compute()." if hasattr(type(refs), "__dask_graph__") else ""
        raise ValueError(
            f"Invalid type of object refs, {type(refs)}, is given. 'object_refs' must either be an "
            f"ObjectRef or a list of ObjectRefs.{hint}"
        )
    for ref in refs:
        if not isinstance(ref, ObjectRef):
            raise ValueError(
                f"Invalid type of object refs, {type(ref)}, is given. 'object_refs' must either be an "
                "ObjectRef or a list of ObjectRefs."
            )
    if not refs:
        return []
    return get_values(current_session(), refs, timeout)


def wait(
    refs: List[ObjectRef], *, num_returns: int = 1, timeout: Optional[float] = None,
    fetch_local: bool = True,
) -> Tuple[List[ObjectRef], List[ObjectRef]]:
    """(ready, not ready), each in the order of `refs`, as soon as `num_returns` are ready or time is up.

    Ready is what ray.get would give, or raise, at once. `ready` has at most `num_returns` references. `timeout`
    in seconds; None: as long as it takes. `fetch_local` is ignored: on one node everything is there. Raises
    TypeError for anything but a list of references, ValueError for a reference that stands twice in it, a
    `num_returns` that is not between 1 and their number, and a negative `timeout`.
    """
    if isinstance(refs, ObjectRef):
        raise TypeError("wait() expected a list of ray.ObjectRef, got a single ray.ObjectRef")
    if not isinstance(refs, list):
        raise TypeError(f"wait() expected a list of ray.ObjectRef, got {type(refs)}")
    if timeout is not None and timeout < 0:
        raise ValueError(f"The 'timeout' argument must be nonnegative. Received {timeout}")
    for ref in refs:
        if not isinstance(ref, ObjectRef):
            raise TypeError(f"wait() expected a list of ray.ObjectRef, got list containing {type(ref)}")
    if not refs:
        return [], []
    if len(set(refs)) != len(refs):
        raise ValueError("Wait requires a list of unique object refs.")
    if num_returns <= 0:
        raise ValueError(f"Invalid number of objects to return {num_returns}.")
    if num_returns > len(refs):
        raise ValueError("num_returns cannot be greater than the number of objects provided to ray.wait.")
    found = current_session().ready([ref._id for ref in refs], num_returns, timeout)
    ready: List[ObjectRef] = []
    rest: List[ObjectRef] = []
    for ref in refs:
        (ready if len(ready) < num_returns and ref._id in found else rest).append(ref)
    return ready, rest


# ---------------------------------------------------------------- functions and actors


def remote(*args: Any, **options: Any) -> Any:
    """`@ray.remote` or `@ray.remote(num_cpus=2, ...)` on a function or a class, which then has `.remote(...)`.

    Of both: `num_cpus` (a task's default is 1; an actor takes none while it lives, unless told), `num_gpus`,
    `memory` in bytes, `resources` as a dict of names and amounts, `name`. Of functions: `num_returns` (1),
    `max_retries` when a worker dies (3; -1: for ever), `retry_exceptions`: True, or a list of classes, to try
    again after those exceptions too. Of classes: `namespace`, `lifetime` ("detached": it outlives its driver),
    `get_if_exists`. Others of Ray's are accepted and change nothing.

    Raises ValueError and TypeError for options that are not known or can't be, TypeError for anything but a
    function or a class.
    """
    if len(args) == 1 and not options and callable(args[0]):
        return _make_remote(args[0], {})
    if args or not options:
        raise TypeError(
            "The @ray.remote decorator must be applied either with no arguments and no parentheses, for "
            "example '@ray.remote', or it must be applied using some of the arguments of "
            "ray.remote_function or ray.actor, for example '@ray.remote(num_returns=2)'."
        )

    def decorate(target: Callable) -> Any:
        return _make_remote(target, options)

    return decorate


def _make_remote(target: Any, options: Dict[str, Any]) -> Any:
    if inspect.isclass(target):
        return ActorClass(target, options)
    if isinstance(target, (RemoteFunction, ActorClass)) or not callable(target):
        raise TypeError(
            "The @ray.remote decorator must be applied to either a function or a class, got "
            f"{type(target).__name__}."
        )
    return RemoteFunction(target, options)


def cancel(ref: ObjectRef, *, force: bool = False, recursive: bool = True) -> None:
    """Cancel the task that makes this object: KeyboardInterrupt where it runs, or with `force` its worker
    is killed. Getting the object raises TaskCancelledError; a task that is done stays done.

    With `recursive`, what the task itself has submitted is cancelled too. Raises TypeError for anything but an
    ObjectRef.
    """
    if not isinstance(ref, ObjectRef):
        raise TypeError(
            f"ray.cancel() only supported for object refs. For actors, try ray.kill(). Got {type(ref)}."
        )
    current_session().cancel_object(ref.binary(), force, recursive)


def kill(actor: ActorHandle, *, no_restart: bool = True) -> None:
    """End an actor at once; calls that are not done fail with ActorDiedError. `no_restart` is ignored: no actor
    is started again. Raises ValueError for anything but an actor's handle."""
    if not isinstance(actor, ActorHandle):
        raise ValueError(
            f"ray.kill() only supported for actors. For tasks, try ray.cancel(). Got: {type(actor)}."
        )
    current_session().kill_actor(actor._actor_id, no_restart)
