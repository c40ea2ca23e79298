"""TF-Serving's REST interface, the counts for Prometheus, and the page for people."""

import asyncio
import base64
import binascii
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from aiohttp import web
from google.protobuf import json_format

from retinaface_tf.protocol import messages as protocol
from retinaface_tf.protocol.tensors import STRING
from retinaface_tf.serving.core import Caller, Core
from retinaface_tf.serving.loaded_model import Signature
from retinaface_tf.serving.request_error import RequestError

# Python objects of this many values take about 400 MB, and a second in which nothing else runs.
MAX_VALUES = 4_000_000
PAGE = Path(__file__).parent / "page"
# The page itself and what probes ask for need no token.
_OPEN = {"/", "/healthz", "/readyz", "/page/page.js", "/page/style.css"}
_NUMPY = {4: np.uint8, 3: np.int32, 9: np.int64, 1: np.float32}
_PAGE_HEADERS = {
    # The page needs nothing from elsewhere, and may not fetch it.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'",
    "X-Content-Type-Options": "nosniff",
}


def build_rest_app(core: Core) -> web.Application:
    """The HTTP side of the server."""
    app = web.Application(middlewares=[_answer_errors(core)])
    handlers = _Handlers(core)
    model = r"/v1/models/{name:[^/:]+}"
    for place in (model, model + r"/versions/{version:\d+}", model + r"/labels/{label:[^/:]+}"):
        app.router.add_post(place + ":predict", handlers.predict)
        app.router.add_get(place, handlers.status)
        app.router.add_get(place + "/metadata", handlers.metadata)
    app.router.add_get("/monitoring/prometheus/metrics", handlers.metrics)
    app.router.add_get("/healthz", handlers.healthz)
    app.router.add_get("/readyz", handlers.readyz)
    app.router.add_get("/", handlers.page)
    app.router.add_get(r"/page/{file:[a-z]+\.(?:js|css)}", handlers.page)
    app.router.add_get("/page/model", handlers.about)
    return app


class Connection(web.RequestHandler):
    """An HTTP connection that is closed where no request, or no reader of the answer, comes.

    Args:
        lost: called once it is closed.
        seconds: to wait for the head of a request; for a reader of an answer also.
    """

    def __init__(self, *args, lost: Callable[[], object], seconds: float, **options):
        super().__init__(*args, **options)
        self._lost, self._seconds = lost, seconds
        self._timer = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.wait()

    def connection_lost(self, error: BaseException | None) -> None:
        self._lost()
        self.stop_waiting()
        super().connection_lost(error)

    def wait(self) -> None:
        """From now on the other side must act."""
        self.stop_waiting()
        if self.transport is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._seconds, self.transport.abort)

    def stop_waiting(self) -> None:
        """A request is being answered."""
        if self._timer:
            self._timer.cancel()
            self._timer = None


def _answer_errors(core: Core):
    """Answers every error as TF-Serving does, {"error": "..."}; counts predictions."""

    @web.middleware
    async def middleware(request: web.Request, handler):
        request.protocol.stop_waiting()
        try:
            with core.answering("predict", "REST", request.method == "POST"):
                if request.path not in _OPEN:
                    core.authorize(request.headers.get("Authorization"))
                try:
                    return await handler(request)
                except web.HTTPException as error:  # such as an address that is not there
                    raise RequestError(error.reason, http=error.status) from None
        except RequestError as failure:
            return web.json_response({"error": str(failure)}, status=failure.http)
        finally:
            request.protocol.wait()

    return middleware


class _Handlers:
    def __init__(self, core: Core):
        self._core = core

    async def predict(self, request: web.Request) -> web.Response:
        core = self._core
        address = request.remote or ""
        with core.admit(address, request.content_length or 0) as arrived:
            data = await _read(request, arrived, core.limits.read_seconds)
            body = await asyncio.to_thread(_parse_body, data)
            async with core.repository.use(_spec(request)) as model:
                signature = model.signature(str(body.get("signature_name", "")))
                inputs = await asyncio.to_thread(_read_inputs, body, signature)
                outputs = await core.predict(signature, inputs, Caller(address))
            text = await asyncio.to_thread(_answer, outputs, "instances" in body)
        return web.Response(text=text, content_type="application/json")

    async def status(self, request: web.Request) -> web.Response:
        response = self._core.repository.status(_spec(request))
        entries = [
            {
                "version": str(entry.version),
                "state": type(entry).State.Name(entry.state),
                "status": {
                    "error_code": "UNKNOWN" if entry.status.error_code else "OK",
                    "error_message": entry.status.error_message,
                },
            }
            for entry in response.model_version_status
        ]
        return web.json_response({"model_version_status": entries})

    async def metadata(self, request: web.Request) -> web.Response:
        async with self._core.repository.use(_spec(request)) as model:
            described = json_format.MessageToDict(
                model.definitions(),
                preserving_proto_field_name=True,
                always_print_fields_with_no_presence=True,
            )
            return web.json_response(
                {
                    "model_spec": {
                        "name": self._core.repository.name,
                        "signature_name": "",
                        "version": str(model.version),
                    },
                    "metadata": {"signature_def": described},
                }
            )

    async def healthz(self, request: web.Request) -> web.Response:
        """The process answers."""
        return web.Response(text="ok")

    async def readyz(self, request: web.Request) -> web.Response:
        """A version is loaded, and the server is not stopping."""
        if not self._core.ready:
            raise RequestError("No version is loaded, or the server is stopping.", "UNAVAILABLE")
        return web.Response(text="ok")

    async def metrics(self, request: web.Request) -> web.Response:
        return web.Response(text=self._core.metrics.text(), content_type="text/plain")

    async def page(self, request: web.Request) -> web.StreamResponse:
        path = PAGE / request.match_info.get("file", "index.html")
        if not path.is_file():
            raise web.HTTPNotFound
        return web.FileResponse(path, headers=_PAGE_HEADERS)

    async def about(self, request: web.Request) -> web.Response:
        """What the page shows of the model."""
        spec = protocol.ModelSpec(name=self._core.repository.name)
        async with self._core.repository.use(spec) as model:
            return web.json_response(
                {
                    "name": self._core.repository.name,
                    "version": model.version,
                    "outputs": sorted(model.signatures["serving_default"].outputs),
                    "note": model.describe(),
                }
            )


def _spec(request: web.Request) -> protocol.ModelSpec:
    spec = protocol.ModelSpec(name=request.match_info["name"])
    if "version" in request.match_info:
        version = int(request.match_info["version"])
        if version >= 2**63:
            raise RequestError(f"{version} is not a version number.")
        spec.version.value = version
    if "label" in request.match_info:
        spec.version_label = request.match_info["label"]
    return spec


async def _read(request: web.Request, arrived: Callable[[int], None], seconds: float) -> bytes:
    """The body; `arrived` is told of each part."""
    parts = []
    try:
        async with asyncio.timeout(seconds):
            async for part in request.content.iter_any():
                arrived(len(part))
                parts.append(part)
    except TimeoutError:
        raise RequestError(
            f"The body did not arrive within {seconds:g} s.", "DEADLINE_EXCEEDED", 408
        ) from None
    return b"".join(parts)


def _parse_body(data: bytes) -> dict:
    if data.count(b",") > MAX_VALUES:
        raise RequestError(
            f"The body has more than {MAX_VALUES:,} values; send images as encoded files, or use gRPC."
        )
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        raise RequestError("The body is not JSON.") from None
    if not isinstance(body, dict) or ("instances" in body) == ("inputs" in body):
        raise RequestError("The body must be an object with either 'instances' or 'inputs'.")
    return body


def _read_inputs(body: dict, signature: Signature) -> dict[str, np.ndarray]:
    """Columns of values by input name, from TF-Serving's row or column form."""
    names = list(signature.inputs)
    columns: dict[str, list]
    if "instances" in body:
        rows = body["instances"]
        if not isinstance(rows, list) or not rows:
            raise RequestError("'instances' must be a list that is not empty.")
        if len(names) == 1 and not any(isinstance(row, dict) and "b64" not in row for row in rows):
            columns = {names[0]: rows}
        else:
            if not all(isinstance(row, dict) and set(row) == set(names) for row in rows):
                raise RequestError(f"Each instance must have the inputs {names}.")
            columns = {name: [row[name] for row in rows] for name in names}
    else:
        values = body["inputs"]
        if len(names) == 1 and not isinstance(values, dict):
            values = {names[0]: values}
        if not isinstance(values, dict) or set(values) != set(names):
            raise RequestError(f"'inputs' must have the inputs {names}.")
        columns = values
    arrays = {}
    for name, values in columns.items():
        spec = signature.inputs[name]
        if not isinstance(values, list):
            raise RequestError(f"Input {name!r} must be a list, one entry an image.")
        array = _strings(name, values) if spec.dtype == STRING else _numbers(name, values, spec)
        signature.check_shape(name, array.shape)
        arrays[name] = array
    return arrays


def _strings(name: str, values: list) -> np.ndarray:
    array = np.empty(len(values), object)
    for i, value in enumerate(values):
        if isinstance(value, dict) and set(value) == {"b64"} and isinstance(value["b64"], str):
            try:
                array[i] = base64.b64decode(value["b64"], validate=True)
            except (binascii.Error, ValueError):
                raise RequestError(f"Entry {i} of {name!r} is not base64.") from None
        elif isinstance(value, str):
            array[i] = value.encode("utf-8", "surrogatepass")
        else:
            raise RequestError(f'Entry {i} of {name!r} must be {{"b64": "..."}} or a string.')
    return array


def _numbers(name: str, values: list, spec) -> np.ndarray:
    try:
        given = np.asarray(values)
        if given.dtype.kind not in "biuf":
            raise ValueError
        with np.errstate(invalid="ignore"):
            array = given.astype(_NUMPY[spec.dtype])
        if array.size and not np.array_equal(array, given):
            raise ValueError
    except (ValueError, KeyError, OverflowError):
        raise RequestError(
            f"Input {name!r} must be evenly nested lists of numbers that fit its type."
        ) from None
    return array


def _answer(outputs: dict[str, np.ndarray], by_row: bool) -> str:
    columns = {name: values.tolist() for name, values in outputs.items()}
    for name, values in columns.items():
        if outputs[name].dtype == object:
            columns[name] = [{"b64": base64.b64encode(value).decode()} for value in values]
    if len(columns) == 1:
        answer = next(iter(columns.values()))
    else:
        answer = [dict(zip(columns, row)) for row in zip(*columns.values())] if by_row else columns
    return json.dumps({"predictions" if by_row else "outputs": answer})
