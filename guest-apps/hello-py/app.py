"""A greeting in Python: answers each request with a line of its own and the path."""

from wit_world import exports
from wit_world.imports.types import (
    Fields,
    IncomingRequest,
    OutgoingBody,
    OutgoingResponse,
    ResponseOutparam,
)
from componentize_py_types import Ok


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        path = request.path_with_query() or "/"
        body = f"Hello from Python!\n{path}\n".encode()
        headers = Fields.from_list(
            [("content-type", b"text/plain"), ("content-length", str(len(body)).encode())]
        )
        response = OutgoingResponse(headers)
        outgoing = response.body()
        # From here on the client may already see the status and the headers.
        ResponseOutparam.set(response_out, Ok(response))
        with outgoing.write() as stream:
            stream.blocking_write_and_flush(body)
        OutgoingBody.finish(outgoing, None)
