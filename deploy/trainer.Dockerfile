# The trainer, with torch (PyPI's x86-64 build includes CUDA). Build from the checkout's root:
#   docker build -f deploy/trainer.Dockerfile -t refilm-trainer .
FROM python:3.11-slim-bookworm AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/refilm
WORKDIR /src
COPY requirements requirements
RUN /opt/refilm/bin/pip install --no-deps --require-hashes \
  -r requirements/build.txt -r requirements/trainer.txt
COPY pyproject.toml LICENSE ./
COPY film film
COPY service/__init__.py service/__init__.py
COPY trainer trainer
# The only large layer: torch, and CUDA.
RUN /opt/refilm/bin/pip install --no-build-isolation ".[trainer]"

FROM python:3.11-slim-bookworm

# A new volume mounted on /models or /work takes their owner.
RUN useradd --uid 10001 --user-group --no-create-home refilm \
  && install --directory --owner refilm --group refilm /models /work
COPY --from=build /opt/refilm /opt/refilm

ENV PATH=/opt/refilm/bin:$PATH PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /work
VOLUME ["/models", "/work"]
ENTRYPOINT ["python", "-m", "trainer"]
