# tonearm and Ray in one image, for Kubernetes or any machine.
#
#   docker build -t tonearm:0.1.0 .
#   docker build -t tonearm:0.1.0-cuda --build-arg TORCH_INDEX=https://pypi.org/simple .
#   docker run --rm --shm-size=4g -v ~/Music:/music:ro -v ~/labels:/labels tonearm:0.1.0 tonearm tag /music --out /labels
#
# Versions are those of constraints.txt; tests/unit/test_deploy.py holds them and deploy/ together.
FROM python:3.11-slim-bookworm AS build
# The CPU build of torch; PyPI's own is the CUDA build, with CUDA's libraries inside.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/tonearm
ENV PATH=/opt/tonearm/bin:$PATH
WORKDIR /src
RUN pip install torch==2.13.0 --index-url ${TORCH_INDEX}
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY src ./src
RUN pip install --constraint constraints.txt ".[cluster,serve,http,int8]"

FROM python:3.11-slim-bookworm
# KubeRay's probes call wget; FFmpeg is inside PyAV.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 ray
COPY --from=build /opt/tonearm /opt/tonearm
COPY --chown=ray:ray jobs /home/ray/jobs
COPY --chown=ray:ray serve /home/ray/serve
# NVIDIA's variables have no effect without its container runtime.
ENV PATH=/opt/tonearm/bin:$PATH PYTHONUNBUFFERED=1 RAY_USAGE_STATS_ENABLED=0 \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER ray
WORKDIR /home/ray
CMD ["tonearm", "--help"]
