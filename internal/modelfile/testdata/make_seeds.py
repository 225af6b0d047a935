"""Writes the seeds of FuzzDecompress: compressed files of every kind that Python reads or writes, and some that are damaged.
Run by hand: python make_seeds.py (lz4).
"""

import bz2
import gzip
import io
import lzma
import zlib
from pathlib import Path

import lz4.frame

folder = Path(__file__).parent / "fuzz" / "FuzzDecompress"
folder.mkdir(parents=True, exist_ok=True)
content = b"\x80\x04csklearn.tree._classes\nDecisionTreeClassifier\n)\x81." + bytes(range(256)) * 4
seeds = {}


def deflated(level, bits, dictionary=None):
    c = zlib.compressobj(level, wbits=bits, **({"zdict": dictionary} if dictionary else {}))
    return c.compress(content) + c.flush()


for level in (0, 1, 9):
    seeds[f"zlib_{level}"] = deflated(level, 15)
    seeds[f"gzip_{level}"] = gzip.compress(content, level, mtime=0)
seeds["zlib_small_window"] = deflated(9, 9)
seeds["zlib_dictionary"] = deflated(9, 15, b"csklearn")
named = io.BytesIO()
with gzip.GzipFile("model.pkl", "wb", fileobj=named, mtime=0) as f:
    f.write(content)
seeds["gzip_name"] = named.getvalue()
seeds["bz2_1"], seeds["bz2_9"] = bz2.compress(content, 1), bz2.compress(content, 9)
seeds["bz2_empty"] = bz2.compress(b"")
for name, check in (("none", lzma.CHECK_NONE), ("crc32", lzma.CHECK_CRC32), ("crc64", lzma.CHECK_CRC64), ("sha256", lzma.CHECK_SHA256)):
    seeds[f"xz_{name}"] = lzma.compress(content, check=check, preset=0)
small = {"id": lzma.FILTER_LZMA2, "dict_size": 4096}
seeds["xz_delta"] = lzma.compress(content, filters=[{"id": lzma.FILTER_DELTA, "dist": 4}, small])
seeds["xz_x86"] = lzma.compress(content, filters=[{"id": lzma.FILTER_X86}, small])
seeds["xz_empty"] = lzma.compress(b"", preset=0)
seeds["lzma"] = lzma.compress(content, format=lzma.FORMAT_ALONE, preset=0)
sized = bytearray(seeds["lzma"])
sized[5:13] = len(content).to_bytes(8, "little")
seeds["lzma_sized"] = bytes(sized)
for name, options in {
    "plain": {},
    "checked": {"content_checksum": True, "block_checksum": True},
    "independent": {"block_linked": False, "block_size": lz4.frame.BLOCKSIZE_MAX64KB},
    "without_size": {"store_size": False},
    "high": {"compression_level": 12},
}.items():
    seeds[f"lz4_{name}"] = lz4.frame.compress(content, **options)
seeds["lz4_skippable"] = lz4.frame.compress(content) + b"\x50\x2a\x4d\x18\x04\x00\x00\x00skip"
for name in ("zlib_9", "gzip_9", "bz2_9", "xz_crc64", "lzma", "lz4_checked"):
    whole = seeds[name]
    seeds[f"{name}_twice"] = whole + whole
    seeds[f"{name}_followed"] = whole + b"\x80\x04N."
    seeds[f"{name}_cut"] = whole[:-3]
    seeds[f"{name}_damaged"] = whole[: len(whole) // 2] + b"\xff" + whole[len(whole) // 2 + 1 :]
seeds["xz_padded"] = seeds["xz_crc64"] + bytes(8)
seeds["xz_dictionary_of_4_GiB"] = lzma.compress(content, preset=0).replace(b"\x21\x01\x12", b"\x21\x01\x28")
seeds["lzma_dictionary_of_4_GiB"] = seeds["lzma"][:1] + b"\xff\xff\xff\xff" + seeds["lzma"][5:]

for name, seed in seeds.items():
    (folder / name).write_text('go test fuzz v1\n[]byte("' + "".join(f"\\x{b:02x}" for b in seed) + '")\n')
