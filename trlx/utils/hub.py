"""Is the model hub within reach? Asked once, before libraries spend minutes on trying again.

Without a network the hub's client waits about half a minute on every file and prints each attempt. Where its host
cannot be reached the client is put into its offline mode instead: what lies in the cache loads at once, and what does
not is an error at once. Left out: hubs that answer, but with errors.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import urllib.request
from functools import cache
from urllib.parse import urlsplit

PATIENCE = 5.0  # seconds for one connection


@cache
def settle_offline() -> bool:
    """Whether the hub is out of reach, or forbidden by HF_HUB_OFFLINE; then its clients go offline from here on."""
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE and not reachable(constants.ENDPOINT):
        os.environ["HF_HUB_OFFLINE"] = "1"  # for what is imported later
        constants.HF_HUB_OFFLINE = True
        if "datasets.config" in sys.modules:
            sys.modules["datasets.config"].HF_HUB_OFFLINE = True  # type: ignore[attr-defined]
    return constants.HF_HUB_OFFLINE


def reachable(url: str, patience: float = PATIENCE) -> bool:
    """Whether a connection to the host of `url`, or to the proxy that leads there, can be opened."""
    target = urlsplit(url)
    proxies = urllib.request.getproxies()
    proxy = proxies.get(target.scheme) or proxies.get("all")
    if proxy and not urllib.request.proxy_bypass(target.hostname or ""):
        target = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    address = (target.hostname or "", target.port or (443 if target.scheme == "https" else 80))
    answered = threading.Event()

    def knock() -> None:
        try:
            socket.create_connection(address, timeout=patience).close()
            answered.set()
        except OSError:
            pass

    # In a thread, because looking up a name has no time limit of its own.
    thread = threading.Thread(target=knock, daemon=True)
    thread.start()
    thread.join(patience)
    return answered.is_set()
