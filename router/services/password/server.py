"""The password server: ``python -m router.services.password.server CONFIG``; SIGHUP rereads CONFIG.

Beside what the web server reads, CONFIG has ``vault`` (folder, see vault.py).
"""

from __future__ import annotations

import sys

from router.services.password.answers import PasswordApplication
from router.webserver.server import serve

if __name__ == "__main__":
    sys.exit(serve(PasswordApplication(), sys.argv[1:]))
