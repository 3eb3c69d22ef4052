"The benchmark for GPUs, with few galaxies on the CPU."
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

GPU = Path(__file__).parents[1]/'benchmarks'/'gpu.py'


@pytest.mark.services
def test_gpu_report(tmp_path):
    tiny = '--n 40 --some 16 --side 32 --seconds .02 --bs 16 --archs test_resnet'.split()
    env = os.environ | dict(GZ_FASTAI_CACHE=str(tmp_path/'cache'), CUDA_VISIBLE_DEVICES='')
    res = subprocess.run([sys.executable, GPU, '--out', tmp_path/'gpu', *tiny], env=env, capture_output=True, text=True, timeout=600)
    assert res.returncode == 0, res.stderr
    report = json.loads((tmp_path/'gpu'/'gpu.json').read_text())
    table = pd.read_csv(tmp_path/'gpu'/'gpu.csv')
    assert len(report['rows']) == len(table) and report['machine']['device'] == 'cpu'
    assert not [row for row in report['rows'] if 'problem' in row]
    rates = table[table.what != 'sample'][['images_per_second', 'gflops', 'seconds']]
    assert (rates.max(axis=1) > 0).all()
    steps = table[table.what == 'training step'].groupby('size').opt.apply(set)
    assert all({'muon', 'adam'} <= o for o in steps) and set(steps.index) == {32, 64}
