"""A MinIO of its own for a benchmark: $MINIO, `minio` on the PATH, or the one that `scripts/test-servers install`
leaves behind."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

KEY, SECRET, BUCKET = "bloctrain-bench", "bloctrain-bench-secret", "bench"


def minio_program():
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    kept = Path(os.environ.get("BLOCTRAIN_TEST_SERVERS", cache / "bloctrain-test-servers")) / "bin" / "minio"
    found = os.environ.get("MINIO") or shutil.which("minio") or (str(kept) if kept.exists() else None)
    return found or sys.exit("no MinIO: set MINIO, or run `scripts/test-servers install`")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_minio(folder):
    """A server whose bucket is there already: a folder of its drive."""
    (folder / "drive" / BUCKET).mkdir(parents=True)
    address = f"127.0.0.1:{free_port()}"
    command = [
        minio_program(),
        "server",
        str(folder / "drive"),
        "--address",
        address,
        "--console-address",
        f"127.0.0.1:{free_port()}",
    ]
    environment = {**os.environ, "MINIO_ROOT_USER": KEY, "MINIO_ROOT_PASSWORD": SECRET}
    log = open(folder / "minio.log", "wb")
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    for _ in range(300):
        try:
            urllib.request.urlopen(f"http://{address}/minio/health/ready", timeout=1).read()
            break
        except (urllib.error.URLError, OSError):
            if process.poll() is not None:
                sys.exit(f"MinIO ended; see {folder}/minio.log")
            time.sleep(0.1)
    else:
        sys.exit("MinIO does not answer")
    settings = {
        "AWS_ENDPOINT": f"http://{address}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }
    return process, settings
