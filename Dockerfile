# The service of a detector (docs/serve.md):
#
#   docker build -t ppdet-serve .
#   docker run --rm -e PPDET_SERVE_TOKEN -p 127.0.0.1:8000:8000 -v ./exported:/model:ro ppdet-serve /model
#
# With a GPU: the package and the index for your CUDA version, as docs/install.md says, and `docker run --gpus all`:
#
#   docker build -t ppdet-serve-gpu --build-arg PADDLE=paddlepaddle-gpu==3.3.1 --build-arg PIP_EXTRA_INDEX_URL=... .

FROM python:3.12-slim-bookworm AS build
ARG PADDLE="paddlepaddle>=3.2"
ARG PIP_EXTRA_INDEX_URL=""
# Packages change seldom, the code often: a layer each.
RUN python -m venv /opt/ppdet
ENV PATH="/opt/ppdet/bin:$PATH"
# setup.py has the versions that work; what is newest of them is what this image is for.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir "$PADDLE" "opencv-python-headless>=4.5"
COPY setup.py pyproject.toml README.md LICENSE /source/
COPY ppdet /source/ppdet
COPY configs /source/configs
RUN pip install --no-cache-dir "/source[export,serve]"

FROM python:3.12-slim-bookworm
# OpenMP, which Paddle does not bring along.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1=12.* \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home ppdet \
    && install -d -o ppdet /var/cache/ppdet
COPY --from=build /opt/ppdet /opt/ppdet
# Exports that the service makes of checkpoints go into the cache folder; a volume keeps them.
ENV PATH="/opt/ppdet/bin:$PATH" PPDET_HOME=/var/cache/ppdet PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001
WORKDIR /tmp
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
# Other machines reach the port, so the service asks for a token (PPDET_SERVE_TOKEN) or --open_to_all.
ENTRYPOINT ["ppdet", "serve", "--host", "0.0.0.0", "--port", "8000"]
CMD ["--help"]
