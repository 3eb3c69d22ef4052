"""Hostile input for everything that reads: label tables, settings, search spaces, schemas, models, folders of runs, images.

    python benchmarks/fuzz.py --out fuzz.csv [--keep FOLDER] [--only labels] [--n 1000] [--seed 0]

Each input is a good one with some damage, drawn by its kind, its number and the seed: bits, bytes and slices of a file, or cells,
keys and values of what it says. A reader has to accept it or raise `BadInput`; whatever else it raises counts as a traceback (an
`OSError` is the machine's, and passes), five seconds of its own time as a hang, and any attempt to run a program, to unpickle
code or to reach the network is blocked and counted. What is accepted is compared with an independent reading where there is one:
then the reader was silently wrong. `--keep` writes such inputs into a folder, each with its traceback; `--again FILE` reads one
of them once more. The same call goes on where it was stopped; a larger `--n` adds inputs.
"""
import base64, contextlib, csv, io, json, math, random, signal, sys, tempfile, tomllib, traceback, warnings, zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import torch
from astropy.io import fits
from PIL import Image

from gz_fastai.core import *
from gz_fastai.data.campaigns import *
from gz_fastai.data.images import *
from gz_fastai.data.fits import *
from gz_fastai.data.tables import *
from gz_fastai.data.sample import *
from gz_fastai.data.schema import *
from gz_fastai.data.labels import *
from gz_fastai.experiment import *
from gz_fastai.inference.predictor import *
from gz_fastai.model.start import *
from gz_fastai.model.bundle import *
from gz_fastai.model.runs import *
from gz_fastai.report.pages import *
from gz_fastai.training.config import *
from gz_fastai.training.train import *
from gz_fastai.training.tune import *
from harness import parser, read_rows, write_rows

# Damage

HOSTILE = [None, True, False, 0, 1, -1, 2, .5, -.5, 1e-9, 1e308, math.nan, math.inf, -math.inf, 2**31, 2**63, 10**23, '', ' ', '0', '1',
           'nan', 'auto', 'gz2', 'GalaxyID', 'Class1.1', 'vgg7', 'a\nb', '\0', '\ud800', '$x$', '{0}', '%s', '../..', '/etc/passwd',
           'hf-hub:someone/model', 'http://localhost:1/x', 'n'*300, [], [[]], [None], [1, 'a'], {}, {'a': 1}, {'low': 1, 'high': 2}]
TOKENS = [b'\0', b'\xff', b'\xfe\xff', b'\xef\xbb\xbf', b'\r', b'\n', b'\r\n', b'"', b"'", b',', b';', b'\t', b'#', b'=', b'[', b']', b'{',
          b'}', b'nan', b'inf', b'-', b'1e999', b'0', b'9'*5000, b'[['*900, b'{"a":'*900, b'true', b'null', b'GalaxyID', b'Class1.1']


def damaged_bytes(rng, data):
    "A file with one to four damages"
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        a, b = sorted(rng.randrange(len(data)+1) for _ in 'ab')
        near = min(len(data), a+rng.choice([1, 1, 2, 8, 64, 1024]))
        how = rng.randrange(8)
        if how == 0 and a < len(data): data = data[:a] + bytes([data[a] ^ 1 << rng.randrange(8)]) + data[a+1:]
        elif how == 1: data = data[:a] + rng.randbytes(near-a) + data[near:]
        elif how == 2: data = data[:a] + data[near:]
        elif how == 3: data = data[:a] + data[a:near]*rng.choice([2, 3, 50]) + data[near:]
        elif how == 4: data = data[:a]
        elif how == 5: data = data[:a] + bytes(near-a) + data[near:]
        elif how == 6: data = data[:a] + rng.choice(TOKENS) + data[a:]
        else: data = data[:a] + data[b:near+b-a] + data[near:]
    return data


def places(o, path=()):
    "The path to every value within plain data"
    yield path
    if isinstance(o, (dict, list)):
        for k, v in o.items() if isinstance(o, dict) else enumerate(o): yield from places(v, (*path, k))


def changed(o, path, change):
    "Plain data with the value at `path` changed; `change` returns a list of what takes its place, empty to remove it"
    if not path: return next(iter(change(o)), None)
    key, *rest = path
    if rest: new = [changed(o[key], rest, change)]
    else: new = change(o[key])
    if isinstance(o, list): return o[:key] + new + o[key+1:]
    return {k: v for k, v in o.items() if k != key} | ({key: new[0]} if new else {})


def hostile_values(rng, o):
    "Plain data with one to three values replaced, removed, repeated, renamed or exchanged"
    for _ in range(rng.choice([1, 1, 2, 3])):
        paths = list(places(o))
        path, other = rng.choice(paths), rng.choice(paths)
        how = rng.randrange(7)
        if how < 3: o = changed(o, path, lambda v: [rng.choice(HOSTILE)])
        elif how == 3: o = changed(o, path, lambda v: [])
        elif how == 4: o = changed(o, path, lambda v: [v, v])
        elif how == 5 and path and isinstance(path[-1], str): o = changed(o, path, lambda v: []) if rng.random() < .3 else changed(o,
                path[:-1], lambda v: [v | {rng.choice(['x', path[-1]+' ', path[-1].upper()]): rng.choice(HOSTILE)}])
        else:
            with contextlib.suppress(KeyError, IndexError, TypeError):
                there = o
                for k in other: there = there[k]
                o = changed(o, path, lambda v: [there])
    return o


def toml_value(o):
    "Plain data as TOML, also where TOML has no such thing"
    if isinstance(o, dict): return '{' + ', '.join(f'{json.dumps(str(k))} = {toml_value(v)}' for k, v in o.items()) + '}'
    if isinstance(o, list): return '[' + ', '.join(map(toml_value, o)) + ']'
    if isinstance(o, float): return repr(o)
    return json.dumps(o)


def as_bytes(text): return text.encode('utf-8', errors='surrogatepass')

# What is read: for each kind, the good input, a damaged one, and the reading, which returns whether it was silently wrong


class Wrong(Exception): "What was accepted is not what was written"


def must(ok, why):
    if not ok: raise Wrong(why)


class Kind:
    "A reader: `draw` makes a damaged input, `sound` are good ones, `read` reads one; `n` says how many inputs a whole run gives it"
    seconds = 5
    def __init__(self, home): self.home, self.file = home, home/f'{type(self).__name__.lower()}{self.suffix}'
    suffix, n = '', 1000
    def put(self, data):
        self.file.write_bytes(data)
        return self.file


class Labels(Kind):
    "`read_labels`: cells, rows and columns, or bytes"
    suffix, n = '.csv', 9000
    def __init__(self, home):
        super().__init__(home)
        self.schema = Schema('small', [Question('A?', ['yes', 'no']), Question('B?', ['one', 'two', 'three'], 'a.1')], ['a.1', 'a.2', 'b.1', 'b.2', 'b.3'])
        rng = np.random.default_rng(0)
        a, b = rng.dirichlet([1, 1], 12), rng.dirichlet([1, 1, 1], 12)
        self.rows = [['GalaxyID', *self.schema.columns]] + [[str(100+i), *(f'{o:.6g}' for o in [*x, *(x[0]*y)])] for i, (x, y) in enumerate(zip(a, b))]

    def sound(self): return [as_bytes(''.join(','.join(r)+'\n' for r in self.rows))]
    def draw(self, rng):
        if rng.random() < .5: return damaged_bytes(rng, *self.sound())
        rows = [list(r) for r in self.rows]
        for _ in range(rng.choice([1, 1, 2])):
            r, c = rng.randrange(len(rows)), rng.randrange(6)
            cell = rng.choice(['', ' ', '0', '1', '2', '-1', '1e-3', '1e999', 'nan', 'NaN', 'inf', 'NA', 'null', 'None', 'x', '"', '0,5',
                               '0x1', '1_0', '１', '0.5 ', '\u00a00.5', '+.5', '1.0', '100', '1e2', "'1", 'é', 'e\u0301', '0.99999999999999999999'])
            how = rng.randrange(9)
            if how < 4: rows[r][c%len(rows[r])] = cell
            elif how == 4: rows[r] = rows[r]+[cell]
            elif how == 5: rows.append(list(rows[r]))
            elif how == 6: rows = [x+[x[c%len(x)]] for x in rows]
            elif how == 7: rows = [x[:c]+x[c+1:] for x in rows]
            else: rows = [x[c:]+x[:c] for x in rows]
        return as_bytes(rng.choice(['', '', '', '\ufeff']) + ''.join(rng.choice([',', ',', ',', ';', '\t',
                ', ']).join(r)+'\n' for r in rows) if rng.random() < .2 else ''.join(','.join(r)+'\n' for r in rows))

    def read(self, data):
        labels = read_labels(self.put(data), self.schema, 'cumulative')
        text = data.decode('utf-8-sig')
        first = text.partition('\n')[0]
        rows = [r for r in csv.reader(io.StringIO(text), delimiter='\t' if first.count('\t') > first.count(',') else ',') if any(r)]
        head = rows[0]
        must(len(set(head)) == len(head), 'a column is there twice')
        ids = [r[head.index(next(c for c in ('GalaxyID', 'GalaxyId') if c in head))].strip() for r in rows[1:]]
        must(labels.ids.tolist() == [normalize_name(i) for i in ids] and len(set(ids)) == len(ids), 'other galaxies')
        got = labels.fractions
        must(np.isfinite(got).all() and (got >= 0).all() and (got <= 1).all(), 'not fractions')
        sums = np.stack([got[:, :2].sum(1), got[:, 2:].sum(1)], 1)
        asked = np.ones((len(got), 2), dtype=bool) if labels.counts is None else labels.votes > 0
        must((np.abs(sums-np.stack([np.ones(len(got)), got[:, 0]], 1)) < .06)[asked].all(), 'sums')
        with contextlib.suppress(ValueError, IndexError):
            want = np.array([[float(r[head.index(c)]) for c in self.schema.columns] for r in rows[1:]])
            plain = (want >= 0).all() and (want <= 1).all() and (np.abs(want[:, :2].sum(1)-1) < .049).all() and (np.abs(want[:,
                    2:].sum(1)-want[:, 0]) < .049).all()
            if plain: must(labels.counts is None and np.allclose(got, want, atol=1e-6), 'other fractions')


class Table(Labels):
    "`read_table` and an audit of it, which reports instead of refusing"
    n = 5000
    def read(self, data):
        table = read_table(self.put(data))
        galaxy_ids(table, self.file, self.schema)
        if not missing_columns(table, self.schema): to_labels(table, self.schema, 'cumulative', self.file).findings()


class Toml(Kind):
    "`Config.read`: values of settings, or bytes"
    suffix, n = '.toml', 36000
    good = dict(data='galaxies', arch='resnet18', pretrained=True, finetune='lora', lora_rank=4, hidden=[64, 32], size=96, zoom=1.2,
                epochs=5, bs=64, lr=.001, wd=.1, ema=.99, patience=3, precision='bf16', seed=7)
    def sound(self): return [as_bytes(''.join(f'{k} = {toml_value(v)}\n' for k, v in self.good.items()))]
    def draw(self, rng):
        if rng.random() < .3: return damaged_bytes(rng, *self.sound())
        given = dict(rng.sample(list(self.good.items()), 4))
        for name in rng.sample(list(settings()), 2): given[name] = rng.choice(HOSTILE)
        given = hostile_values(rng, given)
        if not isinstance(given, dict): return as_bytes(toml_value(given))
        return as_bytes(''.join(f'{k} = {toml_value(v)}\n' for k, v in given.items()))

    def read(self, data):
        cfg = Config.read(self.put(data))
        for k, v in tomllib.loads(self.file.read_text(encoding='utf-8-sig')).items():
            got = getattr(cfg, k)
            must(got == (tuple(v) if isinstance(v, list) else v) or got != got, f'{k} is {got!r}, not {v!r}')
            s = settings()[k]
            numbers = got if isinstance(got, tuple) else (got,)
            must(not s.range or got in s.choices or all(s.range.low <= o <= s.range.high for o in numbers), f'{k} is {got!r}')
        must(Config.read(self.put(as_bytes(cfg.to_toml(())))) == cfg, 'another config after to_toml')


class Space(Kind):
    "`read_space`: lines of --space; each accepted one is searched three times"
    n = 12000
    def sound(self): return [b'bs=[128, 256]', b'drop=0.1', b'lr={low=1e-3, high=1e-2, log=true}', b'drop={low=0.0, high=0.4, step=0.1}']
    def draw(self, rng):
        name = rng.choice([*(n for n, s in settings().items() if not s.fixed), 'lr', 'bs', 'drop', 'wd', 'epochs', 'x'])
        values = [1, 2, 16, 64, 128, 0, -1, .1, .5, 1e-3, 1e-2, 3e-4, 1.5, 10, math.nan, math.inf, True, False, 'auto', 'adam', 'softmax',
                  [1], {'a': 1}, '']
        spec = {k: rng.choice(values) for k in ('low', 'high', 'step', 'log', 'base') if rng.random() < dict(low=.95, high=.95, step=.4,
                log=.4, base=.03)[k]}
        usual = default_space().get(name)
        if 'low' in spec and isinstance(usual, dict) and rng.random() < .6: spec |= {k: usual[k] for k in ('low', 'high')}
        if 'log' in spec and rng.random() < .7: spec['log'] = True
        choices = [rng.choice(values) for _ in range(rng.randrange(4))]
        line = f'{name}={toml_value(rng.choice([spec, spec, spec, choices, rng.choice(HOSTILE)]))}'
        return damaged_bytes(rng, as_bytes(line)) if rng.random() < .2 else as_bytes(line)

    def read(self, data):
        space, fixed = read_space([data.decode(errors='surrogateescape')])
        Config(**{k: v for k, v in fixed.items() if k != 'finetune'})
        changed = {k: v for k, v in space.items() if v != default_space().get(k)}
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        for _ in range(3 if changed else 0):
            trial = study.ask()
            try: got = {k: suggest_value(trial, k, v) for k, v in changed.items()}
            except Exception as e: raise Wrong(f'Optuna refuses it: {type(e).__name__}: {e}') from e
            try: Config(**got | (dict(pretrained=True) if 'finetune' in got else {}))
            except BadInput as e: raise Wrong(f'Config refuses it: {e}') from e
            for k, v in got.items(): must(v in changed[k] if isinstance(changed[k], list) else changed[k]['low'] <= v <= changed[k]['high'], f'{k} {v}')


class SchemaFile(Kind):
    "`read_schema`: values of the JSON, or bytes"
    suffix, n = '.json', 30000
    good = dict(name='small', id_column='id', columns=['a.1', 'a.2', 'b.1', 'b.2'], questions=[dict(text='A?', answers=['yes', 'no'],
            parent=None), dict(text='B?', answers=['one', 'two'], parent='a.1')])
    def sound(self): return [as_bytes(json.dumps(self.good))]
    def draw(self, rng):
        if rng.random() < .2: return damaged_bytes(rng, *self.sound())
        return as_bytes(json.dumps(hostile_values(rng, self.good)))

    def read(self, data):
        s = read_schema(str(self.put(data)))
        texts = [s.name, s.id_column, *s.columns, *(q.text for q in s.questions), *(a for q in s.questions for a in q.answers)]
        must(all(isinstance(o, str) for o in texts), 'a text is no text')
        must(all(q.answers for q in s.questions) and len(s.columns) == sum(len(q.answers) for q in s.questions) == len(set(s.columns)), 'columns')
        must(s.id_column not in s.columns, 'the ID column is an answer')
        must(all(q.parent is None or isinstance(q.parent, str) for q in s.questions), 'a parent is no text')
        must(Schema.from_dict(json.loads(json.dumps(s.to_dict()))) == s, 'another schema after to_dict')
        for o in texts: must('\0' not in o and o == o.encode(errors='replace').decode(), f'{o!r} cannot be written')


def small_run(home):
    "A finished run of a tiny network; made once"
    with contextlib.redirect_stdout(io.StringIO()):
        data = make_sample(24, folder=home/'galaxies')
        (home/'valid.csv').write_text('GalaxyID\n' + '\n'.join(str(1_000_001+i) for i in range(4)))
        cfg = Config(data=str(data), valid=str(home/'valid.csv'), arch='test_resnet', size=32, bs=8, hidden=(8,), epochs=1,
                     precision='fp32', device='cpu', out=str(home/'run'))
        return train(cfg).path


class Files(Kind):
    "Some files of a run, one of them damaged; they are put back after each input"
    names = ()
    def __init__(self, home):
        self.run = home/'run' if (home/'run').exists() else small_run(home)
        self.good = {n: (self.run/n).read_bytes() for n in self.names}

    def sound(self): return [k.encode() + b'\0' + v for k, v in self.good.items()]
    def draw(self, rng):
        name = rng.choice(self.names)
        good = self.good[name]
        if name.endswith('.json') and rng.random() < .7: data = as_bytes(json.dumps(hostile_values(rng, json.loads(good))))
        else: data = damaged_bytes(rng, good)
        return name.encode() + b'\0' + data

    def read(self, data):
        name, _, data = data.partition(b'\0')
        try:
            (self.run/name.decode()).write_bytes(data)
            self.open(name.decode(), data)
        finally:
            for n, o in self.good.items(): (self.run/n).write_bytes(o)


class Model(Files):
    "`read_model` and a prediction: damaged weights that are accepted must predict the same"
    names, n = ('model.json', 'model.safetensors', 'model.safetensors'), 2000
    def __init__(self, home):
        super().__init__(home)
        self.x = torch.linspace(-2, 2, 2*3*32*32).view(2, 3, 32, 32)
        self.want = self.predict()

    def predict(self):
        model, loss, info = read_model(self.run)
        with torch.no_grad(): return loss.activation(model(self.x))

    def open(self, name, data):
        read_info(self.run)
        got = self.predict()
        if name == 'model.safetensors': must(torch.equal(got, self.want), 'damaged weights predict something else')
        else: Predictor(self.run)(np.zeros((1, 60, 60, 3), 'uint8'))


class Folder(Files):
    "`open_experiment`, and all that a run says of itself"
    names, n = ('experiment.json', 'metrics.json', 'history.csv', 'valid.csv', 'valid_labels.csv', 'trained_on.csv', 'model.json'), 3000
    def open(self, name, data):
        run = open_experiment(self.run)
        repr(run), run.metrics, run.predictions, run.observed, run.history, run.info, run.schema, score_table(run)
        got = run.trained_on(['1000001', '1000020'])
        must(got.tolist() == [False, True], 'another list of trained galaxies')
        Config.from_stored(run.requested)


class Report(Folder):
    "`write_report` of a damaged run"
    n, seconds = 100, 20
    def open(self, name, data):
        if not isinstance(open_experiment(self.run), Run): return
        write_report(self.run, self.run.parent/'report.html')


class Picture(Kind):
    "`read_image`: damaged JPEG, PNG, TIFF and FITS files, and members of a zip, whose checksum must hold"
    n = 9000
    def __init__(self, home):
        super().__init__(home)
        px = np.random.default_rng(0).integers(0, 255, (24, 24, 3)).astype('uint8')
        px[4:20, 4:20] = 90
        self.good, self.px = {}, {}
        for kind in ('jpeg', 'png', 'tiff'):
            with io.BytesIO() as f:
                Image.fromarray(px).save(f, kind)
                self.good[kind] = f.getvalue()
        planes = np.moveaxis(px, -1, 0)
        for name, hdu in dict(fits=fits.PrimaryHDU(planes.astype('float32')),
                              fits16=fits.PrimaryHDU(planes[0].astype('int16'))).items(): self.good[name] = self.written(fits.HDUList([hdu]))
        self.good['fits compressed'] = self.written(fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(planes[0].astype('int16'))]))
        with io.BytesIO() as f:
            with zipfile.ZipFile(f, 'w', zipfile.ZIP_DEFLATED) as z: z.writestr('images/1.png', self.good['png'])
            self.good['zip'] = f.getvalue()
        self.png = np.asarray(Image.fromarray(px))

    def sound(self): return [k.encode() + b'\0' + v for k, v in self.good.items()]

    @staticmethod
    def written(hdus):
        with io.BytesIO() as f:
            hdus.writeto(f)
            return f.getvalue()

    def draw(self, rng):
        kind = rng.choice(list(self.good))
        data = self.good[kind]
        if kind.startswith('fits') and rng.random() < .5:     # another value on a card of a header
            cards = [i for i in range(0, min(len(data), 8640), 80) if data[i+8:i+10] == b'= ']
            at = rng.choice(cards)
            value = rng.choice(['T', 'F', 0, -1, 1, 2, 3, 7, 8, 16, -32, -64, 64, 999, 10**6, 10**9, 2**63, 10**25, 'nan',
                                "'x'", '', 1.5, "'GZIP_1'", "'RICE_1'", "'PLIO_1'", "'1PB(9)'"])
            data = data[:at+10] + str(value).rjust(20).ljust(70).encode()[:70] + data[at+80:]
        else: data = damaged_bytes(rng, data)
        return kind.encode() + b'\0' + data

    def read(self, data):
        kind, _, data = data.partition(b'\0')
        file = self.put(data).rename(self.file.with_suffix('.zip' if kind == b'zip' else '.jpg'))
        if kind != b'zip': return read_image(file)
        for name, files in find_images(file).items():
            im, _ = read_image(files[0])
            with zipfile.ZipFile(file) as z: member = z.read(files[0].part.removeprefix('zip:'))
            must(np.array_equal(np.asarray(im), np.asarray(Image.open(io.BytesIO(member)).convert('RGB'))), 'other pixels')


KINDS = dict(labels=Labels, table=Table, toml=Toml, space=Space, schema=SchemaFile, model=Model, folder=Folder, report=Report, image=Picture)

# The harness


class Hang(BaseException): "An input took more than its time"


class Watch:
    "Blocks and counts what reading a file must never do"
    events = ('socket.connect', 'socket.getaddrinfo', 'os.system', 'os.exec', 'os.posix_spawn', 'os.fork', 'subprocess.Popen',
              'pickle.find_class', 'urllib.Request')
    def __init__(self):
        self.armed, self.seen = False, []
        sys.addaudithook(self)

    def __call__(self, event, args):
        if self.armed and event in self.events:
            self.seen.append(f'{event} {args!r:.200}')
            raise PermissionError(f'blocked: {event}')


WATCH = Watch()


def outcome(kind, data):
    "What became of an input: (accepted, BadInput, OSError, traceback, hang, executed or wrong; its traceback)"
    def late(*_): raise Hang()
    before = [(o, signal.signal(o, late)) for o in (signal.SIGPROF, signal.SIGALRM)]
    WATCH.seen.clear()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        signal.setitimer(signal.ITIMER_PROF, kind.seconds, 1)
        signal.setitimer(signal.ITIMER_REAL, 20*kind.seconds, 1)      # where it waits for something
        WATCH.armed = True
        try:
            kind.read(data)
            res = 'accepted', ''
        except BadInput: res = 'BadInput', ''
        except OSError: res = 'OSError', traceback.format_exc()
        except Wrong: res = 'wrong', traceback.format_exc()
        except Hang: res = 'hang', traceback.format_exc()
        except Exception: res = 'traceback', traceback.format_exc()
        finally:
            WATCH.armed = False
            for timer in (signal.ITIMER_PROF, signal.ITIMER_REAL): signal.setitimer(timer, 0)
            for o, handler in before: signal.signal(o, handler)
    return ('executed', '\n'.join(WATCH.seen)) if WATCH.seen else res


def where(trace):
    "The last line of a traceback and the last place of this package in it, which say what kind of finding it is"
    places = [o.strip().split(', in ')[0] for o in trace.splitlines() if 'gz_fastai/' in o]
    return (places or [''])[-1].rpartition('gz_fastai/')[2].replace('", line ', ':'), (trace.strip().splitlines() or [''])[-1][:160]


def fuzz(name, kind, numbers, seed=0, keep=None):
    "Count what becomes of the inputs of these numbers; the first three of each finding go into the folder `keep`"
    counts, found = Counter(), Counter()
    for data in kind.sound(): assert outcome(kind, data)[0] == 'accepted', outcome(kind, data)
    for i in numbers:
        data = kind.draw(random.Random(f'{name} {seed} {i}'))
        what, trace = outcome(kind, data)
        counts[what] += 1
        if what in ('accepted', 'BadInput', 'OSError'): continue
        found[what, *where(trace)] += 1
        if keep and found[what, *where(trace)] <= 3:
            keep.mkdir(parents=True, exist_ok=True)
            (keep/f'{name}-{seed}-{i}.json').write_text(json.dumps(dict(kind=name, what=what, where=where(trace), input=repr(data)[:2000],
                    base64=base64.b64encode(data).decode(), traceback=trace), indent=1))
    return counts, found


FIELDS = ['kind', 'seed', 'inputs', 'accepted', 'BadInput', 'OSError', 'traceback', 'hang', 'executed', 'wrong']


def main():
    p = parser(__doc__, default='fuzz.csv')
    p.add_argument('--keep', type=Path, help='folder for the inputs that were found')
    p.add_argument('--again', type=Path, help='one of those, to be read again')
    p.add_argument('--only', choices=KINDS, action='append', help='this kind alone; may be repeated')
    p.add_argument('--n', type=int, help='inputs of each kind')
    p.add_argument('--seed', type=int, default=0)
    args = p.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory() as home:
        home, out = Path(home), args.out.resolve()
        if args.again:
            found = json.loads(args.again.read_text())
            return print(*outcome(KINDS[found['kind']](home), base64.b64decode(found['base64'])), sep='\n')
        rows = {(o['kind'], int(o['seed'])): o for o in read_rows(out)}
        for name in args.only or KINDS:
            kind = KINDS[name](home)
            row = rows.setdefault((name, args.seed), dict.fromkeys(FIELDS, 0) | dict(kind=name, seed=args.seed))
            total = args.n or kind.n
            for start in range(int(row['inputs']), total, 1000):
                numbers = range(start, min(start+1000, total))
                counts, found = fuzz(name, kind, numbers, args.seed, args.keep)
                for k, v in counts.items(): row[k] = int(row[k])+v
                row['inputs'] = numbers[-1]+1
                for (what, place, line), n in found.items(): print(f'{name} {what} {place} {line} ({n})', flush=True)
                write_rows(out, rows.values())
    print(pd.DataFrame(rows.values()).to_string(index=False))


if __name__ == '__main__': main()
