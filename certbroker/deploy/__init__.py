"""Putting certificates where they are used: `files.py` writes them, `target.py` says where and what is run then.

The broker uses it for the sections `deploy` of its configuration, and `certbroker sync` on other machines.
"""

from certbroker.deploy.files import Ownership
from certbroker.deploy.target import LocalDeployer, Target

__all__ = ["LocalDeployer", "Ownership", "Target"]
