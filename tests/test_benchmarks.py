"Benchmarks with few galaxies on the CPU: the one for GPUs, and the learning curve."
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

HERE = Path(__file__).parent.parent/'benchmarks'


def test_gpu_report(tmp_path):
    tiny = '--n 40 --some 16 --side 32 --seconds .02 --bs 8 --archs vgg7'.split()
    env = os.environ | dict(GZ_FASTAI_CACHE=str(tmp_path/'cache'), CUDA_VISIBLE_DEVICES='')
    res = subprocess.run([sys.executable, HERE/'gpu.py', '--out', tmp_path/'gpu', *tiny], env=env, capture_output=True, text=True, timeout=600)
    assert res.returncode == 0, res.stderr
    report = json.loads((tmp_path/'gpu'/'gpu.json').read_text())
    table = pd.read_csv(tmp_path/'gpu'/'gpu.csv')
    assert len(report['rows']) == len(table) and report['machine']['device'] == 'cpu'
    assert not [row for row in report['rows'] if 'problem' in row]
    rates = table[table.what != 'sample'][['images_per_second', 'gflops', 'seconds']]
    assert (rates.max(axis=1) > 0).all()
    steps = table[table.what == 'training step'].groupby('size').opt.apply(set)
    assert all({'muon', 'adam'} <= o for o in steps) and set(steps.index) == {32, 64}


def test_learning_curve_resumes(galaxies, cache, tmp_path, monkeypatch, capsys):
    "A row for each number of galaxies, with as many epochs as it says; the same command adds only what is missing; a fit to all"
    (tmp_path/'valid.csv').write_text('GalaxyID\n' + '\n'.join(str(1000001+i) for i in range(20)))
    (tmp_path/'small.toml').write_text('arch = "test_resnet"\nsize = 32\nbs = 8\nepochs = 1\n')
    monkeypatch.setenv('GZ_FASTAI_CACHE', str(cache))
    monkeypatch.syspath_prepend(HERE)
    def run(*args):
        monkeypatch.setattr(sys, 'argv', ['curve.py', '--out', str(tmp_path/'curve.csv'), *map(str, args)])
        runpy.run_path(str(HERE/'curve.py'), run_name='__main__')
        return pd.read_csv(tmp_path/'curve.csv')
    def curve(*numbers):
        return run('--data', galaxies, '--valid', tmp_path/'valid.csv', '--config', tmp_path/'small.toml', '--seeds', 0, '--numbers', *numbers)
    first = curve(15)
    assert first.galaxies.tolist() == [15, 60] and first.epochs.tolist() == [2, 1]
    assert first[['rmse_1', 'rmse_8']].stack().between(.01, .6).all()
    again = curve(15, 30)
    assert again[:2].equals(first) and again.galaxies.tolist() == [15, 60, 30]
    exact = pd.concat([again.assign(rmse_1=.1+again.galaxies**-.5, rmse_8=.1)]*2)
    exact.to_csv(tmp_path/'curve.csv', index=False)
    capsys.readouterr()
    run('--fit', 1600)
    one, eight = capsys.readouterr().out.splitlines()
    assert float(one.split()[-4]) == pytest.approx(.125, abs=2e-4) and eight.endswith('; 1,600 galaxies: 0.1000 (0.1000 to 0.1000)')
