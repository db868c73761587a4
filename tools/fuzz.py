"""Fuzz the parsers of wire protocols with mutated recordings, for as long as you like.

    python tools/fuzz.py [--seconds 60] [--seed 1] [TARGET…]

Without targets all of ``tests/streaming/fuzz_targets.py`` take turns. Stops at the first exception, after writing the bytes
that caused it to a file; otherwise prints how many inputs each target has borne.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))
from tests.streaming.fuzz_targets import TARGETS  # noqa: E402
from tests.streaming.recorded_streams import API_SERVER, NODE, load  # noqa: E402

STREAMS = REPOSITORY.parent / "shared" / "kubernetes-1.36" / "streams"


def seeds() -> list[bytes]:
    """What both sides of each recorded stream say; short ones only, so that mutations hit something."""
    found = [b"\x00"]
    for path in sorted(STREAMS.glob("*.jsonl")):
        recording = load(path)
        found += [b"\x00" + recording.sent_by(side)[:2000] for side in (API_SERVER, NODE)]
    return found


def mutate(source: random.Random, corpus: list[bytes]) -> bytes:
    data = bytearray(source.choice(corpus))
    for _ in range(source.randint(1, 8)):
        place = source.randrange(len(data) + 1)
        match source.randrange(6):
            case 0 if data:
                data[place % len(data)] ^= 1 << source.randrange(8)
            case 1:
                del data[place : place + source.randint(1, 16)]
            case 2:
                data[place:place] = source.randbytes(source.randint(1, 16))
            case 3:
                data[place:place] = data[place : place + source.randint(1, 64)]
            case 4:
                other = source.choice(corpus)
                start = source.randrange(len(other))
                data[place:place] = other[start : start + source.randint(1, 200)]
            case _ if data:
                data[place % len(data)] = source.choice((0, 1, 0x7F, 0x80, 0xFF))
    return bytes(data)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (default: 60)")
    parser.add_argument("--seed", type=int, default=1, help="of the mutations (default: 1)")
    arguments = parser.parse_args()
    if unknown := set(arguments.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    names = arguments.targets or list(TARGETS)
    source, corpus = random.Random(arguments.seed), seeds()
    runs = dict.fromkeys(names, 0)
    end = time.monotonic() + arguments.seconds
    while time.monotonic() < end:
        data = mutate(source, corpus)
        for name in names:
            try:
                TARGETS[name](data)
            except BaseException:
                with tempfile.NamedTemporaryFile(prefix=f"fuzz-{name}-", delete=False) as file:
                    file.write(data)
                print(f"{name} failed; its input is in {file.name}", file=sys.stderr)
                raise
            runs[name] += 1
    print(json.dumps(runs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
