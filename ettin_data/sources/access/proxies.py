"""What the environment says of the way to the network, said to every client: proxies, and certificates of one's own.

The clients of the hub and of S3 look at `http_proxy`, `https_proxy` and `no_proxy` themselves; those of HTTP and of GCS
(aiohttp) have to be told to. Each looks for certificates under another name: what one of them names counts for all.
"""

from __future__ import annotations

import os
from typing import Any

BUNDLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE")


def ca_bundle() -> str | None:
    """The file (or folder) of certificates that the environment names; from now on under all names."""
    bundle = next((os.environ[name] for name in BUNDLES if os.environ.get(name)), None)
    if bundle is not None:
        for name in BUNDLES:
            os.environ.setdefault(name, bundle)
    return bundle


def of_protocol(protocol: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of an fsspec file system with what its client has to be told."""
    bundle = ca_bundle()
    if protocol in ("http", "https"):
        return settings | {"get_client": _client}
    if protocol in ("gs", "gcs"):
        return settings | {"session_kwargs": {"trust_env": True} | settings.get("session_kwargs", {})}
    if protocol in ("s3", "s3a") and bundle:
        return settings | {"client_kwargs": {"verify": bundle} | settings.get("client_kwargs", {})}
    return settings


async def _client(**settings: Any) -> Any:
    """A session of aiohttp, which reads `SSL_CERT_FILE` only while it is imported: its context is made here."""
    import ssl

    import aiohttp

    if bundle := ca_bundle():
        place = {"capath": bundle} if os.path.isdir(bundle) else {"cafile": bundle}
        context = ssl.create_default_context()
        context.load_verify_locations(**place)
        settings["connector"] = aiohttp.TCPConnector(ssl=context)
    return aiohttp.ClientSession(**{"trust_env": True, **settings})
