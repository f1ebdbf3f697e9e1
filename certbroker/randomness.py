"""Random bytes without a system call for each.

They come from OpenSSL's generator, which also makes our keys: an SP 800-90A DRBG that the operating system seeds and
that survives a fork. Asking the operating system itself costs 1 to 70 µs a time, depending on the kernel.
"""

from __future__ import annotations

from ssl import RAND_bytes

__all__ = ["random_bytes"]

random_bytes = RAND_bytes
