"The store when a process is killed, and what it costs in memory."
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from importlib.metadata import version

import numpy as np
import pytest

from gz_fastai.data.catalog import Catalog
from gz_fastai.data.store import Store, read_stored

N = 2348


def program(galaxies, folder, pause=0.):
    "Opens a store of the same images again and again; prints how many it decoded"
    return textwrap.dedent(f"""
        import time
        from pathlib import Path
        import numpy as np
        from gz_fastai.data import store
        real, decoded = store._decode, []
        def decode(*args):
            decoded.append(1)
            time.sleep({pause})
            return real(*args)
        store._decode = decode
        files = sorted(Path({str(galaxies)!r}, 'images_training_rev1').iterdir())
        done = store.Store.open([files[i] for i in np.resize(np.arange(len(files)), {N})], size=16, folder={str(folder)!r})
        print(len(decoded), done.folder)""")


def test_a_killed_build_resumes(galaxies, tmp_path):
    folder = tmp_path/'stores'
    child = subprocess.Popen([sys.executable, '-c', program(galaxies, folder, pause=.002)])
    until = time.time()+120
    def rows(): return sum(int((np.load(f)['width'] > 0).sum()) for f in folder.glob('*.partial/index.npy'))
    while rows() < N//2 and time.time() < until: time.sleep(.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    done = rows()
    assert N//2 <= done < N and not [o for o in folder.iterdir() if o.is_dir() and o.suffix != '.partial']
    res = subprocess.run([sys.executable, '-c', program(galaxies, folder)], capture_output=True, text=True, check=True)
    decoded, path = res.stdout.split()
    assert N-done <= int(decoded) <= N-done+os.cpu_count()     # those whose row was not complete
    files = Catalog(galaxies).files
    fresh = Store.open(files, size=16, folder=tmp_path/'fresh')
    assert (Store(path).pixels == fresh.pixels[np.resize(np.arange(len(files)), N)]).all()
    assert not list(folder.glob('*.partial'))


@pytest.mark.skipif(not os.path.exists('/proc/self/status'), reason='RssAnon is read from /proc')
def test_memory_stays_flat(galaxies, tmp_path):
    "A second epoch takes no more anonymous memory than the first, nor do four times as many galaxies"
    prog = textwrap.dedent(f"""
        import gc, json, sys
        import numpy as np
        import pandas as pd
        from gz_fastai.data.catalog import Catalog
        from gz_fastai.data.loaders import GalaxyDataLoaders
        from gz_fastai.data.store import Store
        def memory():
            gc.collect()       # batches in reference cycles wait for it
            lines = (o.split(':') for o in open('/proc/self/status'))
            return {{k: int(v.split()[0])/1024 for k, v in lines if k in ('RssAnon', 'RssFile')}}
        cat, n = Catalog({str(galaxies)!r}), int(sys.argv[1])
        rows = np.resize(np.arange(len(cat)), n)
        table = pd.DataFrame(cat.labels[rows], columns=cat.schema.columns)
        table = table.assign(id_str=np.arange(n), file_loc=[cat.files[r] for r in rows], held_out=np.arange(n) < 64)
        cat = Catalog.from_table(table, valid='held_out')
        store = Store.open(cat.files, folder={str(tmp_path)!r})
        dls = GalaxyDataLoaders.from_catalog(cat, store=store, device='cpu')
        for _ in dls.train: pass
        before = memory()
        for _ in dls.train: pass
        print(json.dumps([before, memory(), store.pixels.nbytes/2**20]))""")
    # glibc gives every freed batch back at once: what stays is held by somebody
    env = os.environ | dict(MALLOC_MMAP_THRESHOLD_='65536', OMP_NUM_THREADS='1')
    def run(n):
        res = subprocess.run([sys.executable, '-W', 'ignore', '-c', prog, str(n)], capture_output=True, text=True, check=True, env=env)
        return json.loads(res.stdout.splitlines()[-1])
    (_, small_after, _), (large, large_after, mapped) = run(500), run(2000)
    assert mapped > 80
    assert large_after['RssAnon']-large['RssAnon'] < 25                      # an epoch leaves nothing behind
    assert large_after['RssAnon']-small_after['RssAnon'] < 40                # and costs what a smaller one costs: pixels are mapped, not copied
    assert large_after['RssFile'] > small_after['RssFile']+25                # they are in the mapped file


@pytest.mark.skipif(tuple(map(int, version('plum-dispatch').split('.')[:2])) >= (2, 10), reason='fastai cannot export with plum-dispatch 2.10: its locks cannot be pickled')
def test_an_exported_learner_predicts_files(galaxies, tmp_path, monkeypatch):
    "It holds no galaxies, and gives the same fractions as the run of its network"
    from fastai.learner import load_learner

    from gz_fastai.data.loaders import GalaxyDataLoaders
    from gz_fastai.inference.predictor import Predictor
    from gz_fastai.model.learner import galaxy_learner
    monkeypatch.setenv('GZ_FASTAI_CACHE', str(tmp_path/'cache'))
    cat, sizes = Catalog(galaxies), []
    for c in (cat, Catalog(galaxies).exclude(cat.train[:40])):
        learn = galaxy_learner(GalaxyDataLoaders.from_catalog(c, size=32, bs=16), 'test_resnet', precision='fp32', path=tmp_path)
        learn.export('learn.pkl')
        sizes.append((tmp_path/'learn.pkl').stat().st_size)
    assert abs(sizes[0]-sizes[1]) < 1000
    shutil.rmtree(tmp_path/'cache')
    loaded = load_learner(tmp_path/'learn.pkl')
    frac, _ = loaded.get_preds(dl=loaded.dls.test_dl(cat.files[:5]))
    monkeypatch.setattr('gz_fastai.inference.predictor.read_model', lambda _: (learn.model.eval(), learn.loss_func, dict(
        schema=cat.schema.to_dict(), size=32, crop=180, stats=learn.dls.stats)))
    pixels = np.stack([read_stored(f, 180, 32) for f in cat.files[:5]])
    assert np.allclose(frac, Predictor(tmp_path, device='cpu', precision='fp32')(pixels), atol=1e-5)
    assert np.allclose(loaded.predict(str(cat.files[4]))[1], frac[4], atol=1e-5)
