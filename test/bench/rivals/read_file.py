"""Reads a file and hashes it, by OpenSSL, as the least that anybody does who looks into it; with --zlib, undoes its compression too."""

import hashlib
import sys
import zlib

digest, content = hashlib.sha256(), zlib.decompressobj() if "--zlib" in sys.argv else None
with open(sys.argv[1], "rb") as f:
    while chunk := f.read(1 << 18):
        digest.update(chunk)
        if content:
            content.decompress(chunk)
print(digest.hexdigest())
