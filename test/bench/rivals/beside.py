"""What the processors of this machine take from one another: seconds of a Python loop on one of them, with the others idle, and while another one hashes."""

import hashlib
import multiprocessing
import os
import statistics
import time


def loop(processor):
    os.sched_setaffinity(0, {processor})
    began = time.perf_counter()
    total = 0
    for i in range(5_000_000):
        total += i
    return time.perf_counter() - began


def hashing(processor, running):
    os.sched_setaffinity(0, {processor})
    piece = bytes(1 << 20)
    running.set()
    while True:
        hashlib.sha256(piece).digest()


if __name__ == "__main__":
    one, other = (sorted(os.sched_getaffinity(0)) * 2)[:2]
    alone, beside = [], []
    for _ in range(5):
        alone.append(loop(one))
        running = multiprocessing.Event()
        neighbor = multiprocessing.Process(target=hashing, args=(other, running), daemon=True)
        neighbor.start()
        running.wait()
        beside.append(loop(one))
        neighbor.kill()
        neighbor.join()
    print(statistics.median(alone), statistics.median(beside))
