#!/bin/sh
# Forty seeds, and five of them twice: the same seed must go the same way.
set -eu
tests/sim/sim --seeds 1..40
tests/sim/sim --seeds 1..5 --twice
