#!/usr/bin/env bash
# What only a GPU shows, in one call of at most eight minutes: tests/trainer/test_real_gpu.py, a step of every objective at the
# papers' size, and samples per second, utilisation and peak memory of CLIP, MAE-CLIP (8 and 12 layers) and MaskCLIP, as one JSON.
#
#   bash tests/gpu/check.sh OUT.json                                              on a machine with a GPU
#   bash tests/gpu/check.sh OUT.json --device cpu --model tiny --batch 8 --steps 1     what it would do, anywhere
#
# $PYTHON (else .venv's, else python3) has torch; what else is missing is installed from wheels in .whl/, where there are some. The
# JSON is written again after each part, so that a call that is cut short leaves the parts before. LIMIT: seconds in all.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ $# -ge 1 ] || { echo "usage: check.sh OUT.json [--device D] [--model M] [--batch N] [--steps N]" >&2; exit 2; }
out=$1
shift
python=${PYTHON:-}
[ -n "$python" ] || { [ -x .venv/bin/python ] && python=$PWD/.venv/bin/python || python=python3; }
if [ -d .whl ]; then
    "$python" -m pip install --quiet --no-index --find-links .whl .whl/*.whl
fi
if ! "$python" -c "import ablative" 2>/dev/null; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    mkdir "$folder/ablative"
    ln -s "$PWD/study/namespace/__init__.py" "$folder/ablative/__init__.py"
    for name in study trainer sweeps reports; do ln -s "$PWD/$name" "$folder/ablative/$name"; done
    export PYTHONPATH="$folder${PYTHONPATH:+:$PYTHONPATH}"
fi
timeout --signal INT "${LIMIT:-480}" "$python" tests/gpu/check.py "$out" --limit "${LIMIT:-480}" "$@"
