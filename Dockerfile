# Images for detection, without TensorFlow, for training and for `retinaface-tf serve`:
#     docker build --tag retinaface-tf .
#     docker run --rm --volume "$PWD/photos:/work" retinaface-tf detect . --json -
#     docker build --tag retinaface-tf:train --target train .
#     docker build --tag retinaface-tf:serve --target serve .
# None runs as root: to write into a mounted folder, add --user "$(id -u):$(id -g)".
FROM debian:trixie-slim AS python
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home faces
ENV PATH=/opt/faces/bin:$PATH PYTHONDONTWRITEBYTECODE=1 RETINAFACE_TF_CACHE=/tmp/retinaface-tf
WORKDIR /work
ENTRYPOINT ["retinaface-tf"]
CMD ["--help"]

FROM python AS build
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends python3-pip python3-venv \
    && rm -rf /var/lib/apt/lists/*
COPY . /source
RUN python3 -m venv --without-pip /opt/faces && pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /source

FROM build AS build-detect
# Less what detection does not use: LiteRT's accelerators and compilers, tests and type stubs. The run at the end
# compiles what each run needs, which the image's user could not keep.
RUN pip --python /opt/faces/bin/python install --no-cache-dir --no-compile /wheels/*.whl \
    && find /opt/faces/lib \( -path "*/ai_edge_litert/*" \( -name "libLiteRt*.so" -o -name tools -o -name vendors \) \
        -o -name tests -o -name "*.pyi" \) -prune -exec rm -r {} + \
    && python -c "from PIL import Image; Image.new('RGB', (64, 64)).save('/tmp/black.png')" \
    && PYTHONDONTWRITEBYTECODE="" retinaface-tf detect /tmp/black.png --json -

FROM build AS build-train
# With a GPU: --build-arg TENSORFLOW="tensorflow[and-cuda]"
ARG TENSORFLOW=tensorflow
# hadolint ignore=DL3013
RUN pip --python /opt/faces/bin/python install --no-cache-dir "$(echo /wheels/*.whl)[train,export]" "$TENSORFLOW"

FROM build AS build-serve
RUN pip --python /opt/faces/bin/python install --no-cache-dir "$(echo /wheels/*.whl)[serving]"

FROM python AS train
COPY --from=build-train /opt/faces /opt/faces
USER 10001

FROM python AS serve
COPY --from=build-serve /opt/faces /opt/faces
USER 10001

FROM python AS detect
COPY --from=build-detect /opt/faces /opt/faces
USER 10001
