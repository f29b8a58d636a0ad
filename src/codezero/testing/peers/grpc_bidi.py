"""gRPC, both ways at once: each message is sent only when the echo of the one before has come, so nothing may be held back."""

# grpcio has no types of its own.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import argparse
import hashlib
import queue
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from codezero.testing.peers.verdict import BrokenError, Facts, Options, endpoint, main, must_equal

SERVICE = "codezero.testing.Peer"
METHOD = f"/{SERVICE}/Echo"
STREAMS = 16


def serve(options: Options) -> None:
    """Echo every message of a bidirectional stream."""
    import grpc

    def echo(messages: Iterator[bytes], _context: grpc.ServicerContext) -> Iterator[bytes]:
        yield from messages

    handler = grpc.method_handlers_generic_handler(SERVICE, {"Echo": grpc.stream_stream_rpc_method_handler(echo)})
    server = grpc.server(ThreadPoolExecutor(STREAMS), handlers=[handler])
    server.add_insecure_port(f"{options.address}:{options.port}")
    server.start()
    server.wait_for_termination()


def check(options: Options) -> Facts:
    """Messages of growing size, each answered before the next is sent; then the stream ends with status OK."""
    import grpc

    host, port = endpoint(options.target)
    outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    total = 0
    # Whatever proxy this machine uses, the peer is reached directly.
    with grpc.insecure_channel(f"{host}:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        echo = channel.stream_stream(METHOD)
        replies = echo(iter(outgoing.get, None), timeout=options.timeout)
        for number in range(options.messages):
            message = hashlib.sha256(str(number).encode()).digest() * (number * 40)
            outgoing.put(message)
            must_equal(f"echo {number}", next(replies), message)
            total += len(message)
        outgoing.put(None)
        if any(True for _ in replies):
            raise BrokenError("a message came that was never sent")
        must_equal("status", replies.code(), grpc.StatusCode.OK)
    return {"messages": options.messages, "bytes": total}


def _client_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--messages", type=int, default=100)


if __name__ == "__main__":
    main("grpc_bidi", serve=serve, check=check, client_options=_client_options)
