"""The uncompressed kernel within a bzImage, which QEMU boots 4 s sooner under TCG."""

import ctypes
import lzma
import struct
import zlib

from tests.lab.errors import LabError

LZ4_LEGACY = b"\x02\x21\x4c\x18"
LZ4_LEGACY_BLOCK_BYTES = 8 << 20
ZSTD = b"\x28\xb5\x2f\xfd"


def extract_kernel(image: bytes) -> bytes:
    """The vmlinux that a bzImage carries. Does not block.

    The kernel's boot protocol (2.08) tells where the compressed payload lies; its last four bytes
    are the size of the result.

    Raises:
        LabError: the compression is none of xz, gzip, lz4, zstd, or the result is no ELF file.
    """
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    payload = image[start : start + length]
    if payload.startswith(b"\xfd7zXZ"):
        kernel = lzma.LZMADecompressor().decompress(payload)
    elif payload.startswith(b"\x1f\x8b"):
        kernel = zlib.decompressobj(wbits=31).decompress(payload)
    elif payload.startswith(LZ4_LEGACY):
        kernel = _lz4_legacy(payload[4:-4])
    elif payload.startswith(ZSTD):
        kernel = _zstd(payload[:-4], struct.unpack("<I", payload[-4:])[0])
    else:
        raise LabError(f"unknown compression of the kernel: {payload[:6].hex()}")
    if not kernel.startswith(b"\x7fELF"):
        raise LabError("the kernel's payload is no ELF file")
    return kernel


def _lz4_legacy(blocks: bytes) -> bytes:
    # The library comes with QEMU; Python's standard library has no lz4 and no tool need be installed.
    library = ctypes.CDLL("liblz4.so.1")
    room = ctypes.create_string_buffer(LZ4_LEGACY_BLOCK_BYTES)
    result = bytearray()
    position = 0
    while position < len(blocks):
        (size,) = struct.unpack_from("<I", blocks, position)
        block = blocks[position + 4 : position + 4 + size]
        got = library.LZ4_decompress_safe(block, room, len(block), len(room))
        if got < 0:
            raise LabError("the kernel's lz4 payload is damaged")
        result += room.raw[:got]
        position += 4 + size
    return bytes(result)


def _zstd(frame: bytes, size: int) -> bytes:
    # It comes with dpkg; Python's standard library has it from 3.14 on.
    library = ctypes.CDLL("libzstd.so.1")
    library.ZSTD_decompress.restype = ctypes.c_size_t
    library.ZSTD_decompress.argtypes = [
        *(ctypes.c_void_p, ctypes.c_size_t),
        *(ctypes.c_char_p, ctypes.c_size_t),
    ]
    result = ctypes.create_string_buffer(size)
    if library.ZSTD_decompress(result, size, frame, len(frame)) != size:
        raise LabError("the kernel's zstd payload is damaged")
    return result.raw
