# Five targets: `api`, `decoder` and `inspector` (no torch), `worker` (CPU by default) and `redis` (Valkey with our settings).
#
#   docker build --target api .
#   docker build --target worker .                                                                # CPU
#   docker build --target worker --build-arg TORCH=cu130 --build-arg EXTRAS="worker gpu" .       # CUDA 13.0
#
# No CUDA base image is needed: torch's wheels carry the CUDA libraries, the host lends the driver.
# docs/deployment.md says which build runs with which driver and card.

# The release that the images are labelled with (tests/unit/test_packaging.py).
ARG VERSION=0.3.0

FROM python:3.11-slim-bookworm AS base
ENV PYTHONDONTWRITEBYTECODE=1 \
    GLOG_minloglevel=2 \
    PYTHONUNBUFFERED=1 \
    PATH=/opt/venv/bin:$PATH
RUN groupadd --gid 10001 talkface \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin talkface \
 && install -d -o talkface -g talkface /var/lib/talkface /run/talkface-signer \
 && install -d -o talkface -g talkface -m 700 \
      /var/lib/talkface-secrets /var/lib/talkface-signing /var/lib/talkface-watermark
WORKDIR /app

# What the images need of pyproject.toml and no more, so that other changes of it keep the layers below.
FROM base AS wanted
ARG EXTRAS=worker
# s3: files in S3-compatible storage (docs/hosts.md).
ARG STORAGE
COPY pyproject.toml docker/requirements.py ./
RUN python requirements.py pyproject.toml service $STORAGE > api.txt \
 && python requirements.py pyproject.toml inspector $STORAGE > inspector.txt \
 && python requirements.py pyproject.toml decoder | grep -E '^(numpy|opencv|reedsolo)' > decoder.txt \
 && python requirements.py pyproject.toml $EXTRAS $STORAGE > worker.txt

FROM base AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY requirements/ requirements/
RUN python -m venv /opt/venv \
 && pip install --quiet --constraint requirements/constraints.txt --upgrade pip

FROM build AS build-api
COPY --from=wanted /app/api.txt ./
RUN pip install --quiet --constraint requirements/constraints.txt --requirement api.txt \
 && pip uninstall --quiet --yes pip \
 # c2pa's wheel carries its library twice; this one is for linking Rust programs.
 && rm /opt/venv/lib/python3.11/site-packages/c2pa/libs/*.rlib
# Our packages are copied, not installed; this is what tells them their version.
COPY pyproject.toml docker/dist_info.py ./
RUN python dist_info.py pyproject.toml

FROM build AS build-decoder
COPY --from=wanted /app/decoder.txt ./
RUN pip install --quiet --no-deps --constraint requirements/constraints.txt --target /opt/decoder \
      --requirement decoder.txt

FROM build AS build-inspector
COPY --from=wanted /app/inspector.txt ./
RUN pip install --quiet --constraint requirements/constraints.txt --requirement inspector.txt \
 && grep '^mediapipe' requirements/no-deps.txt > mediapipe.txt \
 && pip install --quiet --no-deps --requirement mediapipe.txt \
 && pip uninstall --quiet --yes pip
COPY pyproject.toml docker/dist_info.py ./
RUN python dist_info.py pyproject.toml

FROM build AS build-worker
# Which build of torch: cpu, or a CUDA version as PyTorch writes it (cu126, cu130).
ARG TORCH=cpu
# The index that has it, for torch alone; empty: pip's own index, which is PyPI with its CUDA 13 build (docs/adr/0004).
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/${TORCH}
RUN pip install --quiet --no-deps --constraint requirements/constraints.txt \
      ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} torch
COPY --from=wanted /app/worker.txt ./
RUN pip install --quiet --constraint requirements/constraints.txt --requirement worker.txt \
 && pip install --quiet --no-deps --requirement requirements/no-deps.txt \
 && pip uninstall --quiet --yes pip \
 # numba's optional thread pools want system libraries; without them it uses its own.
 && rm /opt/venv/lib/python3.11/site-packages/numba/np/ufunc/ompp*.so \
       /opt/venv/lib/python3.11/site-packages/numba/np/ufunc/tbbp*.so
COPY pyproject.toml docker/dist_info.py ./
RUN python dist_info.py pyproject.toml

FROM base AS api
COPY --from=build-api /opt/venv /opt/venv
# The shared contract and nothing else of the worker: torch cannot creep in.
COPY worker/__init__.py worker/
COPY worker/contract/ worker/contract/
COPY service/ service/
# The commands for operators (docs/operations.md); they import the service and nothing heavier.
COPY talkface/__init__.py talkface/doctor.py talkface/doctor_redis.py talkface/doctor_signer.py talkface/exits.py talkface/findings.py talkface/keys.py talkface/rebuild.py \
     talkface/redis_address.py talkface/
RUN python -m compileall -q service talkface worker
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENV TALKFACE_HOST=0.0.0.0 TALKFACE_PORT=8000 TALKFACE_DATA_DIR=/var/lib/talkface
CMD ["python", "-m", "service"]
ARG VERSION
LABEL org.opencontainers.image.title="talkface api" \
      org.opencontainers.image.version=$VERSION \
      org.opencontainers.image.licenses="Apache-2.0"

# The service, and what looks for the watermark in videos (docs/watermark.md).
FROM api AS decoder
USER 0:0
COPY --from=build-decoder /opt/decoder /opt/venv/lib/python3.11/site-packages
COPY docker/check_libraries.sh docker/
RUN ls -d /opt/venv/lib/python3.11/site-packages/*.libs > /etc/ld.so.conf.d/wheels.conf && ldconfig \
 && docker/check_libraries.sh /opt/venv
COPY model/__init__.py model/errors.py model/
COPY model/watermark/ model/watermark/
COPY worker/watermark_child.py worker/
RUN python -m compileall -q model worker
USER 10001:10001
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["test", "-S", "/var/lib/talkface/decoder.sock"]
CMD ["python", "-m", "worker.contract.intake.decoder_server"]
ARG VERSION
LABEL org.opencontainers.image.title="talkface decoder" \
      org.opencontainers.image.version=$VERSION \
      org.opencontainers.image.licenses="Apache-2.0"

FROM base AS inspector
COPY --from=build-inspector /opt/venv /opt/venv
COPY docker/check_libraries.sh docker/
RUN ls -d /opt/venv/lib/python3.11/site-packages/*.libs > /etc/ld.so.conf.d/wheels.conf && ldconfig \
 && docker/check_libraries.sh /opt/venv
# The face detector, what reads frames for it, and nothing else of the model.
COPY model/__init__.py model/errors.py model/lean_imports.py model/
COPY model/face/ model/face/
COPY model/media/ model/media/
COPY worker/ worker/
COPY talkface/__init__.py talkface/doctor.py talkface/doctor_redis.py talkface/doctor_signer.py talkface/exits.py talkface/findings.py talkface/
RUN python -m compileall -q model talkface worker
ENV TALKFACE_DATA_DIR=/var/lib/talkface HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib
USER 10001:10001
CMD ["python", "-m", "worker.inspection"]
ARG VERSION
LABEL org.opencontainers.image.title="talkface inspector" \
      org.opencontainers.image.version=$VERSION \
      org.opencontainers.image.licenses="Apache-2.0"

FROM base AS worker
COPY --from=build-worker /opt/venv /opt/venv
COPY docker/check_libraries.sh docker/worker_health.py docker/
# Wheels keep their libraries, under names of their own, in *.libs; some find their neighbours there only through ld's cache.
# A CUDA build is not checked: its libraries want the host's driver.
ARG EXTRAS=worker
RUN ls -d /opt/venv/lib/python3.11/site-packages/*.libs > /etc/ld.so.conf.d/wheels.conf && ldconfig \
 && case " $EXTRAS " in *" gpu "*) ;; *) docker/check_libraries.sh /opt/venv ;; esac
COPY model/ model/
COPY worker/ worker/
COPY talkface/__init__.py talkface/doctor.py talkface/doctor_redis.py talkface/doctor_signer.py talkface/exits.py talkface/findings.py talkface/
# The root file system is read-only under compose: what libraries want to cache goes to the tmpfs.
ENV TALKFACE_DATA_DIR=/var/lib/talkface \
    HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib NUMBA_CACHE_DIR=/tmp/numba
# Its list of fonts and numba's compiled functions, which a container that starts anew would make again: seconds during
# which its job waits. Warming up also shows that this image can draw; a CUDA build draws here on the CPU.
RUN python -m compileall -q model talkface worker
RUN install -d -o 10001 -g 10001 /opt/cache && HOME=/opt/cache MPLCONFIGDIR=/opt/cache/matplotlib \
    NUMBA_CACHE_DIR=/opt/cache/numba TALKFACE_DEVICE=cpu python -c "from worker.renderers import load_renderer; from worker.settings import WorkerSettings; load_renderer(WorkerSettings()).warm_up()"
USER 10001:10001
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s --retries=3 CMD ["python", "docker/worker_health.py"]
CMD ["sh", "-c", "cp -r /opt/cache/. /tmp && exec python -m worker"]
ARG VERSION
LABEL org.opencontainers.image.title="talkface worker" \
      org.opencontainers.image.version=$VERSION \
      org.opencontainers.image.licenses="Apache-2.0"

FROM valkey/valkey:8-alpine AS redis
COPY docker/redis.conf /etc/talkface-redis.conf
# Not /data: the base image declares that a volume, and a build step cannot give it another owner.
RUN mkdir -p /var/lib/talkface-redis && chown 10001:10001 /var/lib/talkface-redis
USER 10001:10001
HEALTHCHECK --interval=5s --timeout=3s --start-period=5s --retries=5 CMD ["valkey-cli", "ping"]
CMD ["valkey-server", "/etc/talkface-redis.conf"]
ARG VERSION
LABEL org.opencontainers.image.title="talkface redis" \
      org.opencontainers.image.version=$VERSION \
      org.opencontainers.image.licenses="Apache-2.0"
