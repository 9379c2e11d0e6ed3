"""A load balancer section with every kind of rule."""

from __future__ import annotations

import copy
from typing import Any

from tests.documents import small_state

Raw = dict[str, Any]

SECTION: Raw = {
    "rules": [
        {
            "id": "plain",
            "address": "203.0.113.4",
            "port": 80,
            "interface": "eth0",
            "members": [{"address": "10.1.1.10", "port": 8080}, {"address": "10.1.1.11", "port": 8080}],
            "sources": ["192.0.2.0/24", "198.51.100.7/32"],
        },
        {
            "id": "cookie",
            "address": "203.0.113.4",
            "port": 81,
            "interface": "eth0",
            "algorithm": "leastconn",
            "stickiness": {
                "method": "LbCookie",
                "cookie_name": "SRV",
                "nocache": True,
                "indirect": True,
                "domains": ["a.example", "b.example"],
                "holdtime": 600,
            },
            "health": {"path": "/ping", "timeout": 1, "interval": 3, "healthy": 4, "unhealthy": 5},
        },
        {
            "id": "session",
            "address": "203.0.113.4",
            "port": 82,
            "interface": "eth0",
            "protocol": "http",
            "stickiness": {"method": "AppCookie", "cookie_name": "JSESSIONID", "request_learn": True},
        },
        {
            "id": "source",
            "address": "203.0.113.4",
            "port": 83,
            "interface": "eth0",
            "protocol": "tcp-proxy",
            "algorithm": "source",
            "members": [{"address": "10.1.1.10", "port": 25}],
            "stickiness": {"method": "SourceBased", "table_size": 1000, "expire": 60},
        },
        {
            "id": "secure",
            "address": "203.0.113.4",
            "port": 443,
            "interface": "eth0",
            "protocol": "ssl",
            "certificates": ["c1", "c2"],
        },
    ],
    "certificates": [{"id": "c1", "pem": "PEM 1"}, {"id": "c2", "pem": "PEM 2"}],
}


def balanced_state() -> Raw:
    """The small document with the section; a fresh copy, to spoil."""
    return {**small_state(), "loadbalancer": copy.deepcopy(SECTION)}
