"""Prediction of many JPEGs: images a second and bytes on disk, next to what reading alone and the network alone would take.

    python benchmarks/predict.py RUN --images FOLDER --n 20000 --out predict.csv

The images of the folder are repeated as often as it takes, by links. Each round measures the network on pixels in memory, reading
images into memory with all cores, `predict_images` into a CSV, and the same into shards. A row is added to the CSV for each.
"""
import itertools, os, shutil, tempfile, threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np, torch
from fastcore.utils import num_cpus

from gz_fastai.inference.ensemble import *
from gz_fastai.inference.predict import *
from harness import clocked, memory, parser, read_rows, write_rows


def links(images, folder, n):
    "A folder of n images"
    folder.mkdir()
    files = itertools.cycle(sorted(o for o in Path(images).iterdir() if o.suffix == '.jpg'))
    for i, f in zip(range(n), files):
        try: os.link(f, folder/f'{i}.jpg')
        except OSError: os.symlink(f, folder/f'{i}.jpg')


def network_alone(e, pixels, n):
    "Seconds of the network for n images in memory, each core with batches of its own, as predictions have them"
    def work(_): e.preds[0](pixels)
    with ThreadPoolExecutor(num_cpus(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        list(pool.map(work, range(num_cpus())))
        return clocked(lambda: list(pool.map(work, range(n//len(pixels)))))[1]


def main():
    p = parser(__doc__, default='predict.csv')
    p.add_argument('run', help='folder of a finished run')
    p.add_argument('--images', required=True, help='folder of JPEGs to repeat')
    p.add_argument('--n', type=int, default=20_000)
    p.add_argument('--rounds', type=int, default=2)
    args = p.parse_args()
    tmp, rows = Path(tempfile.mkdtemp()), read_rows(args.out)
    os.environ['GZ_FASTAI_CACHE'] = str(tmp/'cache')
    def size(): return sum(o.stat().st_size for o in tmp.rglob('*') if o.is_file() and o.parent.name != 'images')
    def measured(what, f, n=args.n):
        peak, stop = [size()], threading.Event()
        def watch():
            while not stop.wait(.5): peak.append(size())
        thread = threading.Thread(target=watch)
        thread.start()
        seconds = clocked(f)[1]
        stop.set(), thread.join()
        rows.append(dict(round=k, what=what, images=n, seconds=round(seconds, 1), images_per_second=round(n/seconds), disk_mb=round(max(peak)/1e6, 1), rss_mb=round(memory()['RssAnon'])))
        write_rows(args.out, rows)
        print(rows[-1], flush=True)
    try:
        links(args.images, tmp/'images', args.n)
        e, few = Ensemble(args.run), sorted((tmp/'images').iterdir())[:4000]
        pixels = np.stack([e.read(o)[0] for o in few[:64]])
        for k in range(args.rounds):
            took = network_alone(e, pixels, 4000)
            rows.append(dict(round=k, what='network alone', images=4000, seconds=round(took, 1), images_per_second=round(4000/took), disk_mb=0, rss_mb=round(memory()['RssAnon'])))
            print(rows[-1], flush=True)
            with ThreadPoolExecutor(num_cpus()) as pool: measured('reading alone', lambda: [None for _ in pool.map(e.read, few)], len(few))
            measured('one file', lambda: predict_images(args.run, tmp/'images', tmp/f'{k}.csv'))
            measured('10 shards', lambda: predict_images(args.run, tmp/'images', tmp/f'shards{k}', shards=10))
            for o in (tmp/f'{k}.csv', tmp/f'{k}.csv.json'): o.unlink()
            shutil.rmtree(tmp/f'shards{k}')
    finally: shutil.rmtree(tmp)


if __name__ == '__main__': main()
