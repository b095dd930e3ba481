# The worklist gateway as an image: dependencies from the lock file with their hashes, nothing resolved at start.
#
#   docker build -t worklist-gateway .
#   docker run -p 4243:4243 -p 8080:8080 -v gateway-data:/data --env-file .env worklist-gateway

FROM python:3.11-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_COMPILE=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python -m venv --without-pip /opt/gateway && python -m venv /opt/build
COPY requirements.lock requirements-build.lock ./
RUN /opt/build/bin/python -m pip install -q --require-hashes -r requirements-build.lock \
 && /opt/build/bin/python -m pip --python /opt/gateway/bin/python install -q --only-binary :all: --require-hashes -r requirements.lock
COPY pyproject.toml README.md CHANGELOG.md LICENSE ./
COPY docs docs
COPY bench/README.md bench/
COPY gateway gateway
COPY relay relay
COPY projections projections
# Compiled once, here: the file system is read-only later, and unchecked-hash spares a stat per module at start.
RUN /opt/build/bin/python -m pip wheel -q --no-deps --no-build-isolation --wheel-dir /dist . \
 && /opt/build/bin/python -m pip --python /opt/gateway/bin/python install -q --no-deps --no-index /dist/*.whl \
 && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/gateway/lib

FROM python:3.11-slim-bookworm
ARG VERSION=unreleased
ARG REVISION=unknown
LABEL org.opencontainers.image.title="worklist-gateway" \
      org.opencontainers.image.description="DICOM modality worklist gateway: appointments in over Azure Relay, worklist and MPPS for modalities, status back" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# The image comes without the standard library's compiled modules; a service that may not write would compile them at every start.
RUN python -m compileall -q -j 0 -x '/(test|tests|idlelib|lib2to3|turtledemo|site-packages|dist-packages)/' \
      "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
 && groupadd --gid 10001 gateway \
 && useradd --uid 10001 --gid gateway --home-dir /data --no-create-home --shell /usr/sbin/nologin gateway \
 && install -d -o gateway -g gateway -m 0750 /data
COPY --from=build /opt/gateway /opt/gateway

ENV PATH=/opt/gateway/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    WORKLIST_DB_PATH=/data/gateway.db \
    GATEWAY_DICOM_HOST=0.0.0.0 \
    GATEWAY_OPS_HOST=0.0.0.0
USER 10001:10001
WORKDIR /data
VOLUME /data
# 4243: worklist and MPPS (DICOM). 2762: the same within TLS, when it is set. 8080: GET /health.
EXPOSE 4243 2762 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:' + os.environ.get('GATEWAY_OPS_PORT', '8080') + '/health', timeout=4)"]
ENTRYPOINT ["gateway"]
CMD ["serve"]
