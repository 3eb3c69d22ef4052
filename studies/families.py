"""One network of every family of timm: it trains, is stored, read back and fine-tuned with LoRA, and computes the same after each of it.

    python studies/families.py [--out families.csv] [--seconds 200] [--arch NAME ...]

A family is a module of `timm.models`, and its network the one with the fewest parameters that can be built. It takes a training step
on four random images, is written with `write_model` and compared with what `read_model` makes of the files. Then it gets
corrections from `add_lora`, takes another step, and is compared before and after `merge_lora`. Differences are shares of the
largest output. A row is appended for each network, and those that have one are left out, so the script may be stopped.
"""
import argparse, csv, signal, sys, tempfile, time
from pathlib import Path

import timm
import torch

from gz_fastai.core import BadInput
from gz_fastai.data.schema import GZ2
from gz_fastai.model.adapters import LowRank, add_lora, merge_lora, outputs
from gz_fastai.model.backbones import check_size, galaxy_model, input_size
from gz_fastai.model.bundle import read_model, write_model
from gz_fastai.model.losses import RMSELoss

COLUMNS = ['family', 'arch', 'size', 'parameters', 'problem', 'saved', 'adapted', 'left_out', 'idle', 'merged', 'seconds']
MOST, LARGEST = 140e6, 340        # parameters, and pixels of a side


def families():
    "Family -> names of its networks, the promising ones first"
    hints = ['atto', 'femto', 'pico', 'nano', 'xxs', 'test', 'tiny', 'mini', 'xs', '_s', 'small', '050', '18', '_b0']
    def promise(name): return min([i for i, o in enumerate(hints) if o in name]+[len(hints)]), len(name), name
    res = {}
    for name in timm.list_models():
        module = timm.models._registry._model_entrypoints[name].__module__
        if module.startswith('timm.'): res.setdefault(module.split('.')[-1], []).append(name)
    return {k: sorted(v, key=promise) for k, v in sorted(res.items())}


def smallest(names, tries=12):
    "The name with the fewest parameters among the first few whose images are not too large"
    sizes = {}
    def fixed(name): return getattr(timm.get_pretrained_cfg(name), 'input_size', (3, 64, 64))[-1]
    fit = [o for o in names if fixed(o) <= LARGEST or not getattr(timm.get_pretrained_cfg(o), 'fixed_input_size', False)]
    for name in (fit or names)[:tries]:
        try:
            with torch.device('meta'): sizes[name] = sum(p.numel() for p in timm.create_model(name, num_classes=0).parameters())
        except Exception: continue      # not every network can be built without memory
    best = min(sizes, key=sizes.get) if sizes else names[0]
    if not fit or sizes.get(best, 0) > MOST: raise BadInput('all too large for this table')
    return best


def step(model, x, y):
    "A training step, and the corrections that got no gradient"
    opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-3)
    RMSELoss()(model.train()(x), y).backward()
    idle = sum(p.grad is None for n, p in model.named_parameters() if n.endswith('lora_B'))
    opt.step()
    return idle


def share(a, b): return float((a-b).abs().max()/a.abs().max())


def fitting_size(arch):
    "The network and the size that it takes: 64 px, or its own"
    for size in (64, None):
        try:
            model = galaxy_model(arch, len(GZ2), size=size)
            size = size or input_size(model, True)
            if size > LARGEST: raise BadInput(f'{size} px, too large for this table')
            check_size(model, size)
            return model, size
        except BadInput:
            if size is None or size != 64: raise


def measure(arch, row):
    "Fill the row of a network"
    torch.manual_seed(0)
    model, row['size'] = fitting_size(arch)
    row['parameters'] = sum(p.numel() for p in model.parameters())
    x, y = torch.randn(4, 3, row['size'], row['size']), torch.rand(4, len(GZ2))
    step(model, x, y)
    view = dict(size=row['size'], crop=180, stats=[[.5]*3, [.5]*3], schema=GZ2.to_dict(), trained_on=dict(galaxies=4, mean=[.5]*len(GZ2)))
    with tempfile.TemporaryDirectory() as tmp:
        write_model(tmp, model, view | dict(arch=arch, args={}, hidden=[256], drop=.1, activation='softmax'))
        row['saved'] = share(outputs(model, x), outputs(read_model(tmp)[0], x))
    try: counts = [int(o) for o in add_lora(model).replace(',', '').split() if o.isdecimal()]
    except BadInput as e:
        row['problem'] = e.problem
        return
    row['adapted'], row['left_out'] = [*counts, 0][:2]
    row['idle'] = step(model, x, y)
    before = outputs(model, x)
    merge_lora(model, x)
    assert not any(isinstance(m, LowRank) for m in model.modules())
    row['merged'] = share(before, outputs(model, x))


def late(*_): raise TimeoutError('takes too long')


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--out', type=Path, default=Path(__file__).with_suffix('.csv'))
    p.add_argument('--seconds', type=int, default=200, help='of a CPU, limit for a network')
    p.add_argument('--arch', nargs='+', help='these networks only; default: one of each family')
    args = p.parse_args()
    signal.signal(signal.SIGPROF, late)
    done = {r['family'] for r in csv.DictReader(args.out.open())} if args.out.exists() else set()
    for family, names in families().items():
        named = [o for o in names if o in args.arch] if args.arch else names
        if family in done or not named: continue
        start, row = time.process_time(), dict(family=family)
        signal.setitimer(signal.ITIMER_PROF, args.seconds)
        try:
            row['arch'] = smallest(named)
            measure(row['arch'], row)
        except KeyboardInterrupt: sys.exit(130)
        except BadInput as e: row['problem'] = e.problem
        except Exception as e: row['problem'] = f'{type(e).__name__}: {(str(e).splitlines() or [""])[0]}'[:200]
        finally: signal.setitimer(signal.ITIMER_PROF, 0)
        row['seconds'] = round(time.process_time()-start, 1)
        first = not args.out.exists()
        with args.out.open('a', newline='') as f:
            writer = csv.DictWriter(f, COLUMNS, lineterminator='\n')
            if first: writer.writeheader()
            writer.writerow({k: f'{v:.1e}' if k in ('saved', 'merged') else v for k, v in row.items()})
        print(*row.values(), flush=True)


if __name__ == '__main__': main()
