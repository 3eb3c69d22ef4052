"""What the explorer's rankings find, and how fast it is.

    python studies/explore.py teach RUN --data GALAXIES --weights tf_efficientnet_lite0.safetensors
    python studies/explore.py audit RUN --data GALAXIES
    python studies/explore.py speed RUN --data GALAXIES --out work

`teach` simulates an astronomer who marks ten galaxies of a kind by their labels, and then all of the first 50 of the ranking, round by
round: the share of the kind among the next 50, for the features of the run, of a network from ImageNet, and for a random order.
`audit` gives 2% of the galaxies wrong labels, and counts how many are in the first 2% of the audit. `speed` times the first page, a filter
and a sort over HTTP, and reads the memory of the server, for the galaxies as they are and for 100,000 rows that repeat them.
Each result is a row of explore_teach.csv, explore_audit.csv or explore_speed.csv beside this file. It needs psutil and httpx.
"""
import argparse, re, signal, subprocess, sys, time
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import timm
import torch
from safetensors.torch import load_file

from gz_fastai.core import *
from gz_fastai.data.catalog import *
from gz_fastai.data.images import *
from gz_fastai.data.store import *
from gz_fastai.explore.search import *
from gz_fastai.explore.opening import *

HERE = Path(__file__).parent
KINDS = {'edge-on': ('Class2.1', .6), 'ring': ('Class8.1', .3), 'merger': ('Class8.6', .3)} # at least this fraction of all volunteers
SHOWN = 50


def save(name, rows):
    with atomic_write(HERE/f'explore_{name}.csv') as tmp: pd.DataFrame(rows).to_csv(tmp, index=False)
    print(pd.DataFrame(rows).to_string(index=False), flush=True)


def opened(args, labels=None):
    cat = Catalog(args.data)
    return open_gallery(args.run, cat, labels=labels, marks='explore_marks.csv')


def of_imagenet(gallery, weights):
    "Features of a timm network with ImageNet's weights, at 128 pixels"
    name = Path(weights).stem
    model = timm.create_model(name, num_classes=0).eval()
    model.load_state_dict(load_file(weights), strict=False)
    cfg = model.pretrained_cfg
    files = [Path(gallery.images[i][0]) for i in gallery.ids]
    store = Store.open(files, crop=gallery.runs[0].info['crop'], size=128, unreadable='skip')
    mean, std = [torch.tensor(cfg[k])[:, None, None] for k in ('mean', 'std')]
    res = []
    with torch.no_grad():
        for a in range(0, len(store), 64):
            x = torch.from_numpy(store.pixels[a:a+64]).movedim(-1, 1)/255
            side = (x.shape[-1]-128)//2
            res.append(model((x[..., side:side+128, side:side+128]-mean)/std))
    return torch.cat(res).numpy()


def rounds(unit, kind, seed, n=4):
    "The share of a kind among the first 50 of a ranking that is taught, round by round"
    rng = np.random.default_rng(seed)
    yes, no, res = list(rng.choice(np.flatnonzero(kind), 10, replace=False)), [], []
    for k in range(n):
        score = rng.random(len(kind)) if unit is None else teach(unit, yes, no)
        score[yes+no] = -1
        first = np.argsort(-score, kind='stable')[:SHOWN]
        res.append(kind[first].mean())
        yes, no = yes+first[kind[first]].tolist(), no+first[~kind[first]].tolist()
    return res


def teach_rows(args):
    g = opened(args)
    features = {Path(args.run).name: g.unit}
    if args.weights: features['ImageNet, ' + Path(args.weights).stem] = unit_features(of_imagenet(g, args.weights))
    features['random order'] = None
    rows = []
    for kind, (column, least) in KINDS.items():
        is_kind = g.values(f'volunteers:{column}') >= least
        for name, unit in features.items():
            shares = np.array([rounds(unit, is_kind, seed) for seed in range(10)])
            rows.append(dict(kind=kind, galaxies=int(is_kind.sum()), of=len(g), features=name) | {f'round {k}': round(o, 3) for k,o in enumerate(shares.mean(0))}
                        | {'standard deviation of round 0': round(shares[:, 0].std(), 3)})
    save('teach', rows)


def audit(args):
    g = opened(args)
    n, rows = len(g), []
    wrong = n//50
    first = g.schema.slices[0]
    for how in ('labels of another galaxy', 'smooth and features exchanged'):
        for seed in range(3):
            rng, seen = np.random.default_rng(seed), g.observed.copy()
            at = rng.choice(n, wrong, replace=False)
            if how.startswith('labels'): seen[at] = seen[np.roll(at, 1)]
            else:
                cond = g.schema.conditional(seen[at])
                cond[:, [first.start, first.start+1]] = cond[:, [first.start+1, first.start]]
                seen[at] = g.schema.cumulative(cond)
            p, _ = vote_pvalue(g.mean, observed=seen, schema=g.schema)
            error = np.sqrt(((g.mean-seen)**2).mean(1))
            found = {name: len({*np.argsort(score, kind='stable')[:wrong]} & {*at}) for name, score in (('probability', p), ('error', -error))}
            rows.append(dict(wrong=how, seed=seed, galaxies=n, flipped=wrong, found_by_probability=found['probability'], found_by_error=found['error']))
    save('audit', rows)


def repeated(g, to, n):
    "Predictions and a list of images that repeat those of a gallery"
    ids = [f'r{k}' for k in range(n)]
    at = np.arange(n) % len(g)
    pq.write_table(pa.table({'GalaxyID': ids, 'file_loc': [g.images[i][0] for i in g.ids[at]]}), to/'images.parquet')
    columns = {g.schema.id_column: pa.array(ids)} | {c: pa.array(g.mean[at, k]) for k,c in enumerate(g.schema.columns)}
    columns['features'] = pa.FixedSizeListArray.from_arrays(pa.array(g.unit[at].ravel()), g.unit.shape[1])
    pq.write_table(pa.table(columns), to/'predictions.parquet')
    return ['--images', to/'images.parquet', '--predictions', to/'predictions.parquet']


def timed(get, path, n=5):
    "The median time of a page, seconds"
    times = []
    for _ in range(n):
        start = time.perf_counter()
        assert get(path).status_code == 200, path
        times.append(time.perf_counter()-start)
    return float(np.median(times))


def speed(args):
    g, rows = opened(args), []
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    labels = ['--labels', Path(args.data)/'training_solutions_rev1.csv']
    for name, given in ((f'{len(g):,} galaxies', ['--images', Path(args.data)/'images_training_rev1', *labels]), ('100,000 rows', repeated(g, out, 100_000))):
        log, start = out/'log.txt', time.perf_counter()
        with log.open('w') as f: p = subprocess.Popen([sys.executable, '-m', 'gz_fastai.cli', 'explore', args.run, *map(str, given), '--port', '0'], cwd=out, stdout=f, stderr=f)
        while not (url := re.search(r'http://[\d.:]+', log.read_text())):
            if p.poll() is not None: raise SystemExit(log.read_text())
            time.sleep(.05)
        started = time.perf_counter()-start
        client = httpx.Client(base_url=url[0], timeout=100)
        start = time.perf_counter()
        page = client.get('/').text
        for o in re.findall(r'src="(/image[^"]+)"', page): client.get(o.replace('&amp;', '&'))
        first, one = time.perf_counter()-start, re.search(r'data-id="([^"]+)"', page)[1]
        row = dict(what=name, start=started, first_wall=first) | {k: timed(client.get, o) for k, o in (
            ('filter', '/?f=all:Class1.2,0.5,1'), ('filters_and_sort', '/?f=all:Class1.2,0.5,1&f=asked:Class4.1,0.5,1&sort=entropy'),
            ('like', f'/?sort=like:{one}'), ('galaxy', f'/galaxy?id={one}'))}
        for i in re.findall(r'data-id="([^"]+)"', page)[:10]: client.post('/mark', data=dict(id=i, question='wanted', answer='yes'))
        row |= dict(taught=timed(client.get, '/?sort=taught:wanted=yes'), memory_mb=psutil.Process(p.pid).memory_info().rss/1e6)
        p.send_signal(signal.SIGINT)
        p.wait()
        (out/'marks.csv').unlink()
        rows.append({k: round(v, 3) if isinstance(v, float) else v for k,v in row.items()})
    save('speed', rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('what', choices=['teach', 'audit', 'speed'])
    parser.add_argument('run', help='folder of a run')
    parser.add_argument('--data', required=True, help="galaxies with labels, in Kaggle's layout")
    parser.add_argument('--weights', help='safetensors file of a timm network, named after it')
    parser.add_argument('--out', type=Path, default=Path('explore-work'), help='folder for what is made')
    args = parser.parse_args()
    dict(teach=teach_rows, audit=audit, speed=speed)[args.what](args)


if __name__ == '__main__': main()
