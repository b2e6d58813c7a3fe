"""A raylet in a few lines, for tests of the client alone: one driver, one worker, tasks in their order.

It speaks the real frames over real sockets and runs the real worker in a forked process, keeps every value
in memory and hands out slabs of one memfd. It schedules nothing and forgives nothing.
"""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from typing import Any, Dict, List, Optional, Set, Tuple

from ray._packets import PeerGone, send_packet, wait_for_packet
from ray._wire import common_pb2, session_pb2 as wire

ID_BYTES = 28
SEGMENT_BYTES = 64 << 20


def split_ids(ids: bytes) -> List[bytes]:
    return [ids[i : i + ID_BYTES] for i in range(0, len(ids), ID_BYTES)]


class MiniRaylet:
    """Listens at `path`. `seen` has every client frame, with who sent it."""

    def __init__(self) -> None:
        self.directory = tempfile.mkdtemp(prefix="mini-raylet-", dir="/tmp")
        self.path = os.path.join(self.directory, "raylet.sock")
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(self.path)
        self._listener.listen(8)
        self.seen: List[Tuple[str, wire.ClientFrame]] = []
        self.values: Dict[bytes, Any] = {}  # bytes, Location or Failure
        self.held: Set[bytes] = set()
        self.pins: Dict[bytes, int] = {}
        self._lock = threading.RLock()
        self._gets: List[List[Any]] = []  # [socket, request, ids left, values?]
        self._functions: Dict[Tuple[str, int], wire.FunctionDef] = {}
        self._memfd = os.memfd_create("mini-store")
        os.ftruncate(self._memfd, SEGMENT_BYTES)
        self._next_offset = 0
        self._slabs: Dict[int, common_pb2.Location] = {}
        self._segments_told: Set[int] = set()
        self._batch = 0
        self._group = 0
        self._results: Dict[int, List[Tuple[bytes, int]]] = {}
        self._done: Dict[int, threading.Event] = {}
        self._last_batch_to_worker = 0
        self._worker_functions: Set[int] = set()
        self._worker: Optional[socket.socket] = None
        self.worker_pid = 0
        self._spawn_worker()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()
        if self._worker is not None:
            self._worker.close()
        try:
            os.waitpid(self.worker_pid, 0)
        except ChildProcessError:
            pass
        os.close(self._memfd)
        os.unlink(self.path)
        os.rmdir(self.directory)

    # ------------------------------------------------------------ sessions

    def _spawn_worker(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.worker_pid = os.fork()
        if self.worker_pid == 0:
            ours.close()
            self._listener.close()
            status = 0
            try:
                from ray._worker import main

                main.run(1, theirs.detach())
            except BaseException:
                import traceback

                traceback.print_exc()
                status = 1
            os._exit(status)
        theirs.close()
        self._worker = ours
        threading.Thread(target=self._serve, args=(ours, "worker"), daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock, "driver"), daemon=True).start()

    def _serve(self, sock: socket.socket, who: str) -> None:
        while True:
            try:
                data, descriptor = wait_for_packet(sock)
            except (PeerGone, OSError):
                return
            if descriptor >= 0:
                os.close(descriptor)
            frame = wire.ClientFrame.FromString(data)
            with self._lock:
                self.seen.append((who, frame))
                body = frame.WhichOneof("body")
                getattr(self, f"_on_{body}", lambda *_: None)(sock, who, getattr(frame, body))

    def _send(self, sock: socket.socket, **body: Any) -> None:
        try:
            send_packet(sock, wire.ServerFrame(**body).SerializeToString())
        except PeerGone:
            pass

    def _on_hello(self, sock: socket.socket, who: str, hello: wire.Hello) -> None:
        self._send(
            sock,
            hello_reply=wire.HelloReply(
                protocol_version=1, node=b"n" * 16, session=1, graph_credit_bytes=64 << 20,
                inline_bytes_max=64 << 10, slab_bytes=4 << 20, session_directory=self.directory,
            ),
        )

    # ------------------------------------------------------------ graphs

    def _on_graph_chunk(self, sock: socket.socket, who: str, chunk: wire.GraphChunk) -> None:
        for definition in chunk.functions:
            self._functions[who, definition.number] = definition
        if who == "driver":
            self._send(sock, credit=wire.Credit(bytes=chunk.ByteSize()))
        threading.Thread(target=self._run_chunk, args=(who, chunk), daemon=True).start()

    def _run_chunk(self, who: str, chunk: wire.GraphChunk) -> None:
        groups = []
        for size, blob in zip(chunk.group_sizes, chunk.group_blobs):
            self._group += 1
            groups += [(self._group, blob, position) for position in range(size)]
        dep_at = 0
        for number in range(chunk.task_count):
            count = chunk.dep_counts[number] if chunk.dep_counts else 0
            deps = []
            for k in range(dep_at, dep_at + count):
                dep = chunk.deps[k]
                index = chunk.dep_returns[k] if chunk.dep_returns else 0
                if dep & 1:
                    deps.append(chunk.externals[dep >> 1])
                else:
                    deps.append(
                        chunk.graph + (dep >> 1).to_bytes(8, "big") + index.to_bytes(4, "big")
                    )
            dep_at += count
            self._run_task(who, chunk, number, groups[number], deps)

    def _run_task(
        self, who: str, chunk: wire.GraphChunk, number: int, group: Tuple, deps: List[bytes]
    ) -> None:
        task = chunk.first_task + number
        returns = chunk.return_counts[number] if chunk.return_counts else 1
        ids = [
            chunk.graph + task.to_bytes(8, "big") + index.to_bytes(4, "big") for index in range(returns)
        ]
        while True:
            with self._lock:
                values = [self.values.get(dep) for dep in deps]
            if None not in values:
                break
            threading.Event().wait(0.002)
        failed = next((v for v in values if isinstance(v, common_pb2.Failure)), None)
        if failed is not None:
            for id in ids:
                self.store(id, failed)
            return
        with self._lock:
            done = threading.Event()
            definition = self._functions[who, chunk.function_numbers[number]]
            batch = self.make_batch(chunk.graph, [task], definition, [group], deps, values, returns)
            if chunk.name_numbers:
                batch.names.append(chunk.names[chunk.name_numbers[number]])
                batch.name_numbers.append(0)
            option = chunk.options[chunk.option_numbers[number] - 1] if chunk.option_numbers else None
            if option is not None and option.retry_on_exception:
                batch.retry_numbers.append(1)
            self._results[batch.batch] = [(ids, 0)]
            self._done[batch.batch] = done
            self._send(self._worker, run_batch=batch)
        done.wait()

    def make_batch(
        self, graph: bytes, tasks: List[int], definition: wire.FunctionDef, groups: List[Tuple],
        deps: List[bytes], values: List[Any], returns: int,
    ) -> wire.RunBatch:
        self._batch += 1
        batch = wire.RunBatch(
            batch=self._batch, graphs=[graph], tasks=tasks, follows=self._last_batch_to_worker,
            function_numbers=[definition.number], group_numbers=[groups[0][0]],
            group_positions=[groups[0][2]], input_counts=[len(deps)], return_counts=[returns],
            functions=[definition], groups=[wire.TaskGroup(number=groups[0][0], blob=groups[0][1])],
        )
        self._last_batch_to_worker = self._batch
        for dep, value in zip(deps, values):
            if isinstance(value, bytes):
                batch.inputs.append(4 * len(batch.inline_inputs) + wire.INPUT_INLINE)
                batch.inline_inputs.append(value)
            else:
                self._tell_segment(self._worker)
                self.pins[dep] = self.pins.get(dep, 0) + 1
                batch.inputs.append(4 * len(batch.located_inputs) + wire.INPUT_LOCATED)
                batch.located_inputs.append(value)
                batch.located_ids += dep
        return batch

    def _on_results(self, sock: socket.socket, who: str, results: wire.Results) -> None:
        inline, sealed = iter(results.inline_values), iter(results.sealed)
        kinds, failures = iter(results.return_kinds), iter(results.failures)
        counts = iter(results.return_counts)
        for number, position in enumerate(results.positions):
            ids, _ = self._results[results.batch][position]
            status = results.statuses[number] if results.statuses else wire.TASK_OK
            if status == wire.TASK_OK:
                for id in ids[: next(counts) if results.return_counts else 1]:
                    kind = next(kinds) if results.return_kinds else wire.RETURN_INLINE
                    self.store(
                        id, next(inline) if kind == wire.RETURN_INLINE else self._place(next(sealed))
                    )
            else:
                failure = next(failures)
                for id in ids:
                    self.store(id, failure)
            self._done[results.batch].set()

    # ------------------------------------------------------------ objects

    def store(self, id: bytes, value: Any) -> None:
        with self._lock:
            self.values[id] = value
            for get in list(self._gets):
                self._answer(get)

    def _place(self, sealed: wire.Sealed) -> common_pb2.Location:
        slab = self._slabs[sealed.slab]
        return common_pb2.Location(
            segment=1, offset=slab.offset + sealed.offset, size_bytes=sealed.size_bytes
        )

    def _on_get(self, sock: socket.socket, who: str, get: wire.Get) -> None:
        waiting = [sock, get.request, split_ids(get.ids), get.values]
        self._gets.append(waiting)
        self._answer(waiting)

    def _answer(self, get: List[Any]) -> None:
        sock, request, ids, values = get
        ready = [id for id in ids if id in self.values]
        if not ready:
            return
        get[2] = [id for id in ids if id not in self.values]
        if not get[2]:
            self._gets.remove(get)
        answers = wire.ObjectAnswers(request=request, ids=b"".join(ready))
        for id in ready:
            value = self.values[id]
            if not values:
                answers.kinds.append(wire.ANSWER_READY)
            elif isinstance(value, bytes):
                answers.kinds.append(wire.ANSWER_INLINE)
                answers.inline_values.append(value)
            elif isinstance(value, common_pb2.Location):
                self._tell_segment(sock)
                self.pins[id] = self.pins.get(id, 0) + 1
                answers.kinds.append(wire.ANSWER_LOCATED)
                answers.locations.append(value)
            else:
                answers.kinds.append(wire.ANSWER_FAILED)
                answers.failures.append(value)
        self._send(sock, object_answers=answers)

    def _on_cancel_get(self, sock: socket.socket, who: str, cancel: wire.CancelGet) -> None:
        self._gets = [get for get in self._gets if get[1] != cancel.request or get[0] is not sock]

    def _on_cancel(self, sock: socket.socket, who: str, cancel: wire.Cancel) -> None:
        if cancel.request:
            self._send(sock, ack=wire.Ack(request=cancel.request))

    def _on_put(self, sock: socket.socket, who: str, put: wire.Put) -> None:
        if put.WhichOneof("content") == "sealed":
            self.store(put.id, self._place(put.sealed))
        else:
            self.store(put.id, put.inline_value)
        self.held.add(put.id)

    def _on_references(self, sock: socket.socket, who: str, changed: wire.References) -> None:
        self.held.update(split_ids(changed.held))
        self.held.difference_update(split_ids(changed.released))
        unpinned = split_ids(changed.unpinned)
        for id, count in zip(unpinned, changed.unpin_counts or [1] * len(unpinned)):
            self.pins[id] -= count

    def _on_slab_request(self, sock: socket.socket, who: str, request: wire.SlabRequest) -> None:
        self._tell_segment(sock)
        number = len(self._slabs) + 1
        offset = (self._next_offset + 4095) & -4096
        self._next_offset = offset + request.size_bytes
        location = common_pb2.Location(segment=1, offset=offset, size_bytes=request.size_bytes)
        grant = wire.SlabGrant(request=request.request, slab=number)
        if self._next_offset > SEGMENT_BYTES:
            self._next_offset = offset
            grant.failure.code = common_pb2.OBJECT_STORE_FULL
            grant.failure.message = "the store is full"
        else:
            self._slabs[number] = location
            grant.location.CopyFrom(location)
        self._send(sock, slab_grant=grant)

    def _tell_segment(self, sock: socket.socket) -> None:
        if sock.fileno() in self._segments_told:
            return
        self._segments_told.add(sock.fileno())
        frame = wire.ServerFrame(segment=wire.SegmentDef(segment=1, size_bytes=SEGMENT_BYTES))
        send_packet(sock, frame.SerializeToString(), self._memfd)
