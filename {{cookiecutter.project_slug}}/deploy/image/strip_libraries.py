"""Cuts the debug symbols off compiled packages while the image is built: a third of its size.

The loader reads segments; what lies behind the last one is for linkers and debuggers. `strip` does
the same and more, but it is not in a slim base image.
"""

import struct
import sys
from pathlib import Path

# Places in a file of that kind. https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html
ELF_64_LITTLE = b"\x7fELF\x02\x01"
PROGRAM_HEADERS_AT = 32  # e_phoff
SECTION_HEADERS_AT = 40  # e_shoff
PROGRAM_HEADER_SIZE_AT = 54  # e_phentsize, then e_phnum
SECTION_COUNT_AT = 60  # e_shnum, then e_shstrndx
SEGMENT_AT = 8  # p_offset of a program header; p_filesz is 24 bytes further


def main() -> None:
    files = [file for file in Path(sys.argv[1]).rglob("*.so*") if file.is_file()]
    saved = sum(strip(file) for file in files)
    sys.stdout.write(f"{len(files)} libraries are {saved // 1_000_000} MB smaller.\n")


def strip(file: Path) -> int:
    content = bytearray(file.read_bytes())
    if not content.startswith(ELF_64_LITTLE):
        return 0
    end = segments_end(content)
    struct.pack_into("<Q", content, SECTION_HEADERS_AT, 0)
    struct.pack_into("<HH", content, SECTION_COUNT_AT, 0, 0)
    file.write_bytes(content[:end])
    return len(content) - end


def segments_end(content: bytearray) -> int:
    (table,) = struct.unpack_from("<Q", content, PROGRAM_HEADERS_AT)
    size, count = struct.unpack_from("<HH", content, PROGRAM_HEADER_SIZE_AT)
    end = int(table + size * count)
    for header in range(table, end, size):
        (offset,) = struct.unpack_from("<Q", content, header + SEGMENT_AT)
        (length,) = struct.unpack_from("<Q", content, header + SEGMENT_AT + 24)
        end = max(end, offset + length)
    return end


if __name__ == "__main__":
    main()
