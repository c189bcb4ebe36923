from __future__ import annotations

import math

import numpy as np

from models.sequence_loops import erf


def test_the_error_function_is_that_of_the_c_library_in_single_precision() -> None:
    for x in np.concatenate([np.linspace(-6, 6, 4_001), [0.0, 1e-8, -1e-8, 1e30, -1e30]]).astype(np.float32):
        assert abs(erf(x) - math.erf(x)) < 1e-6
