"""A certificate for localhost that is its own authority."""

from __future__ import annotations

import subprocess
from pathlib import Path


def certificate_in(directory: Path) -> tuple[str, tuple[str, ...]]:
    """The certificate's file, and the options with which a redis-server uses it."""
    certificate, key = directory / "redis.crt", directory / "redis.key"
    asked = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1")
    names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    files = ("-keyout", str(key), "-out", str(certificate))
    subprocess.run([*asked, *names, *files], check=True, capture_output=True, timeout=60)
    options = ("--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-ca-cert-file", str(certificate))
    return str(certificate), (*options, "--tls-auth-clients", "no")
