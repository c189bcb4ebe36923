"""The cores are the encoder's: what a role multiplies itself takes one of them, in whatever thread it runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PRODUCTS = """
import threading, time, types
import torch
from ops.process import Process

class Loop:
    role = "updater"
    def run(self, stop):
        items, users = torch.ones(4_000, 384), torch.ones(64, 384)
        for times in (20, 200):
            whole, own = time.process_time(), time.thread_time()
            for _ in range(times):
                users @ items.T
            print((time.process_time() - whole) / (time.thread_time() - own))

torch.set_num_threads(1)
process = types.SimpleNamespace(_one_thread=True, failure=None, _stop=threading.Event())
thread = threading.Thread(target=Process._run, args=(process, Loop()))
thread.start()
thread.join()
assert process.failure is None, process.failure
"""


def test_a_product_in_a_roles_thread_takes_one_core() -> None:
    run = subprocess.run(
        [sys.executable, "-c", PRODUCTS], capture_output=True, text=True, timeout=120,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True,
    )  # fmt: skip
    assert float(run.stdout.split()[-1]) < 1.3
