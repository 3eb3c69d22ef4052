"""Predictions for as many images as Kaggle's test set has: throughput beside the bare forward pass, and memory.

    python benchmarks/predict.py RUN --images galaxy-zoo/images_training_rev1 [--n 80000]

The images are repeated, as hard links where the file system has them. The bare forward pass takes turns with the prediction:
before and after it, on one batch of the same size that is ready in memory. RssAnon is what the process itself has allocated.
"""
import itertools, os, shutil, tempfile, threading, time
from pathlib import Path

import torch

from gz_fastai.data.images import *
from gz_fastai.inference.predict import *
from gz_fastai.data.store import *
from harness import clocked, memory, parser, timed

BS = 256


@torch.no_grad()
def bare(p, pixels, seconds=8):
    "Images per second of the network alone"
    x = next(p.views(pixels))
    def step():
        with torch.autocast(p.device.type, dtype=p.dtype, enabled=p.dtype is not None): p.activation(p.model(x)).cpu()
    return len(x)/timed(step, seconds, p.device)


def main():
    ap = parser(__doc__)
    ap.add_argument('run', help='folder of a finished run')
    ap.add_argument('--images', required=True, help='folder of images to repeat')
    ap.add_argument('--n', type=int, default=80_000)
    args = ap.parse_args()
    tmp = Path(tempfile.mkdtemp())
    os.environ['GZ_FASTAI_CACHE'] = str(tmp/'cache')
    try:
        (tmp/'images').mkdir()
        for i,f in zip(range(args.n), itertools.cycle(sorted(o for o in Path(args.images).iterdir() if o.suffix == '.jpg'))):
            try: os.link(f, tmp/'images'/f'{i}.jpg')
            except OSError: shutil.copy(f, tmp/'images'/f'{i}.jpg')
        p = Predictor(args.run)
        store, took = clocked(lambda: Store.open(image_ids(tmp/'images', None, p.schema)[1], crop=p.crop, size=p.size, unreadable='skip'))
        print(f'store of {len(store):,} images: {took:.1f} s')
        before = bare(p, store.pixels[:BS])
        seen,stop = [],threading.Event()
        def watch():
            while not stop.wait(2): seen.append(memory()['RssAnon'])
        threading.Thread(target=watch, daemon=True).start()
        start = time.perf_counter()
        some = range(0, min(len(store), 20_000), BS)
        for a in some: p(store.pixels[a:a+BS])
        loop = min(len(store), len(some)*BS)/(time.perf_counter()-start)
        res, took = clocked(lambda: predict_images(args.run, tmp/'images', tmp/'out.csv', bs=BS))
        whole = len(store)/took
        stop.set()
        after = bare(p, store.pixels[:BS])
        floor = (before+after)/2
        print(f'bare forward {before:.0f} and {after:.0f} images/s; from the store {loop:.0f} = {loop/floor:.0%}; predict_images, which finds the files, writes the CSV and reads it back, {whole:.0f} = {whole/floor:.0%} ({res["seconds"]:.0f} s)')
        print('RssAnon in MB, a tenth of the way each:', [round(seen[i*(len(seen)-1)//10]) for i in range(11)])
    finally: shutil.rmtree(tmp)


if __name__ == '__main__': main()
