"""`@ray.remote` on a class: actors, whose state lives in one worker and whose calls run in order."""

from __future__ import annotations

import inspect
from typing import Any, Dict, List, Optional, Union

from ray import exceptions
from ray._calls_buffer import gather
from ray._functions import pickle_function
from ray._options import ACTOR_OPTIONS, METHOD_OPTIONS, actor_options, check_options
from ray._ref import ObjectRef
from ray._runtime import current_namespace, current_session
from ray._serialize import UnpicklableError, deserialize, serialize
from ray._wire import session_pb2 as wire

_RETURNS_ATTRIBUTE = "__ray_num_returns__"


def method(*args: Any, **options: Any) -> Any:
    """`@ray.method(num_returns=2)` on a method of an actor's class: each call gives a list of two references.

    The other options of Ray's methods are accepted and change nothing. Raises ValueError without any option, and
    for those that Ray does not have.
    """
    if args or not options:
        raise ValueError(
            "The @ray.method decorator must be applied using at least one of the arguments in the list "
            f"{sorted(METHOD_OPTIONS)}, for example '@ray.method(num_returns=2)'."
        )
    check_options(options, METHOD_OPTIONS, "actor methods")

    def decorate(function: Any) -> Any:
        setattr(function, _RETURNS_ATTRIBUTE, options.get("num_returns") or 1)
        return function

    return decorate


class ActorClass:
    """A class whose instances live on the cluster: `A.remote(...)` gives a handle at once."""

    def __init__(self, cls: type, options: Dict[str, Any]) -> None:
        check_options(options, ACTOR_OPTIONS, "actors")
        self._class = cls
        self._defaults = options
        self._session: Any = None
        self._number = 0
        self._captured: List[ObjectRef] = []
        self.__name__ = cls.__name__
        self.__qualname__ = cls.__qualname__
        self.__module__ = cls.__module__
        self.__doc__ = cls.__doc__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            f"Actors cannot be instantiated directly. Instead of '{self.__name__}()', use "
            f"'{self.__name__}.remote()'."
        )

    def remote(self, *args: Any, **kwargs: Any) -> "ActorHandle":
        """Make an actor, with these arguments of its constructor; at once, without waiting for it.

        Its constructor's error is raised by whatever is called on it. Raises ActorAlreadyExistsError (a
        ValueError) for a name that is taken, TypeError for what can't be pickled.
        """
        return self._remote(args, kwargs, self._defaults)

    def options(self, **options: Any) -> "_ActorClassWithOptions":
        """The same class with other options for the actors made through the result."""
        check_options(options, ACTOR_OPTIONS, "actors")
        return _ActorClassWithOptions(self, {**self._defaults, **options})

    def _remote(self, args: tuple, kwargs: Dict[str, Any], options: Dict[str, Any]) -> "ActorHandle":
        session = current_session()
        if session is not self._session:
            self._introduce(session)
        made = actor_options(options, current_namespace())
        name = made.actor_name
        if name:
            existing = _existing(session, name, made.actor_namespace)
            if existing is not None:
                if made.get_if_exists:
                    return existing
                raise exceptions.ActorAlreadyExistsError(
                    f"The name {name!r} (namespace={made.actor_namespace!r}) is already taken. Use another "
                    "name or get the actor by ray.get_actor()."
                )
        description = _describe(self._class)
        if name:
            made.actor_handle = serialize((self.__name__, description)).to_bytes()
        what = f"{self.__name__}.__init__"
        refs = gather(session, self._number, args, kwargs, made, 1, what, what)
        if name:
            session.flush()
        return ActorHandle(refs[0], self.__name__, description)

    def _introduce(self, session: Any) -> None:
        try:
            pickled, contained = pickle_function(self._class)
        except UnpicklableError as error:
            raise TypeError(f"the actor class {self.__name__} can't be sent: {error}") from error
        self._captured = [ObjectRef(id) for id in contained]
        self._number = session.functions.intern_pickled(
            pickled, self.__name__, wire.FunctionDef.ACTOR_CLASS
        )
        self._session = session

    def __reduce__(self) -> tuple:
        return ActorClass, (self._class, self._defaults)


class _ActorClassWithOptions:
    """What `A.options(...)` gives."""

    def __init__(self, actor_class: ActorClass, options: Dict[str, Any]) -> None:
        self._actor_class = actor_class
        self._options = options

    def remote(self, *args: Any, **kwargs: Any) -> "ActorHandle":
        """As ActorClass.remote, with these options."""
        return self._actor_class._remote(args, kwargs, self._options)


def _describe(cls: type) -> Dict[str, int]:
    """The methods that can be called, each with its number of results."""
    methods = {}
    for name, member in inspect.getmembers(cls, callable):
        if name.startswith("__") and name not in ("__call__", "__len__", "__getitem__", "__repr__"):
            continue
        if name in ("__repr__", "__call__") and member is getattr(object, name, None):
            continue
        methods[name] = getattr(member, _RETURNS_ATTRIBUTE, 1)
    return methods


def _existing(session: Any, name: str, namespace: str) -> Optional["ActorHandle"]:
    try:
        return _find(session, name, namespace)
    except exceptions.ActorHandleNotFoundError:
        return None


class ActorHandle:
    """An actor as seen from anywhere. `handle.method.remote(...)` calls it.

    A handle may be passed to tasks and other actors. An actor without a name ends when its last handle is
    gone and its calls are done.
    """

    def __init__(self, ref: ObjectRef, class_name: str, methods: Dict[str, int]) -> None:
        self._ray_ref = ref
        self._ray_class_name = class_name
        self._ray_methods = methods
        self._ray_options = wire.TaskOptions(
            actor=ref.binary(), no_resources=True, retries_max=0, has_retries_max=True
        )

    @property
    def _actor_id(self) -> bytes:
        return self._ray_ref.binary()

    @property
    def _ray_actor_id(self) -> bytes:
        return self._ray_ref.binary()

    def __getattr__(self, name: str) -> "ActorMethod":
        methods = self.__dict__.get("_ray_methods")
        if methods is None or name not in methods:
            class_name = self.__dict__.get("_ray_class_name", "?")
            raise AttributeError(f"'{class_name}' object has no attribute '{name}'")
        bound = ActorMethod(self, name, methods[name])
        self.__dict__[name] = bound
        return bound

    def __dir__(self) -> List[str]:
        return sorted(self._ray_methods)

    def __repr__(self) -> str:
        return f"Actor({self._ray_class_name}, {self._ray_ref.hex()})"

    def __hash__(self) -> int:
        return hash(self._ray_ref)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, ActorHandle) and self._ray_ref == other._ray_ref

    def __reduce__(self) -> tuple:
        return ActorHandle, (self._ray_ref, self._ray_class_name, self._ray_methods)


class ActorMethod:
    """A method of an actor."""

    def __init__(self, handle: ActorHandle, name: str, returns: int) -> None:
        # Not the handle, which keeps this: the actor ends when the last handle goes, not the collector.
        self._ref = handle._ray_ref
        self._options = handle._ray_options
        self._name = name
        self._returns = returns
        self._session: Any = None
        self._number = 0
        self._shown = f"{handle._ray_class_name}.{name}"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            f"Actor methods cannot be called directly. Instead of running 'object.{self._name}()', try "
            f"'object.{self._name}.remote()'."
        )

    def remote(self, *args: Any, **kwargs: Any) -> Union[None, ObjectRef, List[ObjectRef]]:
        """Call the method after all calls that this process made before: a reference to its result (a list of
        them, or None, by num_returns). A dead actor's ActorDiedError is raised by ray.get."""
        return self._remote(args, kwargs, self._returns, self._shown)

    def options(self, **options: Any) -> "_MethodWithOptions":
        """The same method with another `num_returns` or `name` for the calls made through the result."""
        check_options(options, METHOD_OPTIONS, "actor methods")
        return _MethodWithOptions(self, options)

    def _remote(
        self, args: tuple, kwargs: Dict[str, Any], returns: int, name: str
    ) -> Union[None, ObjectRef, List[ObjectRef]]:
        session = current_session()
        if session is not self._session:
            self._number = session.functions.intern_pickled(
                b"", self._name, wire.FunctionDef.ACTOR_METHOD
            )
            self._session = session
        refs = gather(
            session, self._number, args, kwargs, self._options, returns, name, self._shown
        )
        if returns == 1:
            return refs[0]
        return refs if returns else None


class _MethodWithOptions:
    """What `handle.method.options(...)` gives."""

    def __init__(self, bound: ActorMethod, options: Dict[str, Any]) -> None:
        self._bound = bound
        returns = options.get("num_returns")
        self._returns = bound._returns if returns is None else returns
        self._name = options.get("name") or bound._shown

    def remote(self, *args: Any, **kwargs: Any) -> Union[None, ObjectRef, List[ObjectRef]]:
        """As ActorMethod.remote, with these options."""
        return self._bound._remote(args, kwargs, self._returns, self._name)


def get_actor(name: str, namespace: Optional[str] = None) -> ActorHandle:
    """A handle on the actor of this name, in `namespace` or else in that of ray.init.

    Raises ValueError if there is none.
    """
    if not name:
        raise ValueError("Please supply a non-empty value to get_actor")
    return _find(current_session(), name, namespace or current_namespace())


def _find(session: Any, name: str, namespace: str) -> ActorHandle:
    try:
        found = session.find_actor(name, namespace)
    except exceptions.ActorHandleNotFoundError:
        raise exceptions.ActorHandleNotFoundError(
            f"Failed to look up actor with name '{name}'. This could be because 1. You are trying to look "
            "up a named actor you didn't create. 2. The named actor died. 3. You did not use a namespace "
            f"matching the namespace of the actor (looked in {namespace!r})."
        ) from None
    class_name, methods = deserialize(found.handle)
    return ActorHandle(ObjectRef(found.actor), class_name, methods)
