"""Wrong uses of the commands, one a row of `wrong_uses.csv`, and a few for each setting: one line that names what is wrong, and nothing left behind.

In a command, `<nul>`, `<ff>`, `<digits>` and `<300>` stand for a zero byte, a byte that is not UTF-8, ten thousand digits and a name of 300 letters;
words that start with @ are variables of the environment. The parts, which `|` separates, have to be in the line; a row may allow several statuses.
"""
import contextlib
import csv
import errno
import io
import json
import logging
import os
import pickle
import re
import shlex
import shutil
import signal
import struct
import traceback
import warnings
import zipfile
from pathlib import Path

import pytest
from conftest import IMAGES, LABELS, in_process
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny import copied, tiny_crossval, tiny_run, tiny_study

from gz_fastai.training.config import settings

HERE = Path(__file__).parent
STANDS_FOR = {'<nul>': '\0', '<ff>': os.fsdecode(b'\xff'), '<digits>': '9'*10_000, '<300>': 'n'*300, '<251>': 'n'*251}


logging.getLogger('timm').setLevel(logging.ERROR)     # it warns of models without a config


class Malicious:
    "Whoever unpickles it writes the file `canary`"
    def __reduce__(self): return open, ('canary', 'w')


TOML = {   # name -> content of a settings file
    'empty': '', 'crlf': 'epochs = 3\r\nbs = 16\r\n', 'bom': b'\xef\xbb\xbfepochs = 3\n',
    'text': 'train for three epochs', 'utf16': 'epochs = 3\n'.encode('utf-16'), 'latin1': 'data = "Andr\xe9"\n'.encode('latin-1'),
    'nul': 'epochs = 3\0\n',
    'deep': 'hidden = ' + '['*900 + ']'*900, 'digits': f'seed = {"9"*10_000}', 'digits-float': f'lr = {"9"*400}', 'twice': 'epochs = 3\nepochs = 4',
    'table': '[epochs]\nn = 3', 'section': '[train]\nepochs = 3', 'unknown': 'epoch = 3', 'case': 'Epochs = 3', 'date': 'epochs = 2024-01-01',
    'out': 'out = ""', 'lora': 'finetune = "lora"', 'minutes': 'minutes = 3.0', 'schema': 'schema = "s-other.json"',
    'schema-none': 'schema = "none.json"\ndata = "galaxies"',
    'labels-none': 'labels = "none.csv"', 'labels-folder': 'labels = "images"', 'labels-jpg': 'labels = "images/1000001.jpg"',
    'images-none': 'images = "nowhere"', 'images-file': 'images = "file.txt"',
    'device': 'device = "gpu"', 'device-meta': 'device = "meta"', 'fold': 'fold = 9\nfolds = 5', 'folds': 'fold = 0\nfolds = 1000',
    'crop': 'crop = 100000', 'hidden': 'hidden = [1000000000]'}

A, B = dict(text='A?', answers=['yes', 'no']), dict(text='B?', answers=['one', 'two'], parent='a.1')
OTHER = dict(name='other', id_column='GalaxyID', columns=['a.1', 'a.2', 'b.1', 'b.2'], questions=[A, B])
def of(**changes): return OTHER | changes
def one(**changes): return of(questions=[A | changes, B])


SCHEMAS = {   # name -> content of a schema's file, text or data
    'other': OTHER, 'empty': '', 'text': 'a question', 'list': [OTHER], 'null': None, 'number': 5, 'object': {},
    'no-name': {k: v for k, v in OTHER.items() if k != 'name'},
    'no-questions': {k: v for k, v in OTHER.items() if k != 'questions'}, 'questions-empty': of(questions=[], columns=[]),
    'questions-object': of(questions=A), 'questions-text': of(questions='A?'),
    'question-null': of(questions=[None, B]), 'question-more': one(weight=3), 'answers-text': one(answers='yes'),
    'answers-none': one(answers=[]), 'answers-number': one(answers=5),
    'answers-object': one(answers=dict(yes=1, no=0)), 'text-null': one(text=None), 'text-number': one(text=5),
    'text-list': one(text=['A?']), 'parent-later': one(parent='b.1'), 'parent-self': one(parent='a.1'),
    'parent-number': of(questions=[A, B | dict(parent=1)]), 'columns-few': of(columns=['a.1', 'a.2']),
    'columns-twice': of(columns=['a.1', 'a.1', 'b.1', 'b.2']), 'columns-number': of(columns=['a.1', 'a.2', 3, 4]),
    'columns-text': of(columns='abcd'), 'column-is-id': of(columns=['a.1', 'a.2', 'b.1', 'GalaxyID']), 'id-number': of(id_column=7),
    'name-number': of(name=7), 'deep': '['*100_000, 'digits': '9'*10_000, 'nan': 'NaN',
    'utf16': json.dumps(OTHER).encode('utf-16'),
    'surrogate': '{"name": "\\ud800", "id_column": "GalaxyID", "columns": ["a", "b"], "questions": [{"text": "\\ud800", "answers": ["yes", "no"]}]}'}

IDS = {   # name -> content of a list of galaxies
    'ids': 'GalaxyID\n1000003\n1000004\n', 'ids-bom': b'\xef\xbb\xbfGalaxyID\n1000003\n1000004\n', 'ids-header': 'GalaxyID\n',
    'ids-unknown': 'GalaxyID\n1000003\n55\n', 'ids-twice': 'GalaxyID\n1000003\n1000003\n',
    'ids-blank': 'GalaxyID,x\n1000003,1\n,2\n', 'ids-no-header': '1000003\n1000004\n', 'ids-utf16': 'GalaxyID\n1000003\n'.encode('utf-16'),
    'ids-nul': 'GalaxyID\n10000\x0003\n',
    'ids-columns': 'GalaxyID,GalaxyID\n1000003,1000004\n', 'ids-all': 'GalaxyID\n'+'\n'.join(str(1_000_001+i) for i in range(80))}


def labels(cells):
    "What is wrong with a label table: name -> its content, made from a good one's rows of cells"
    def text(rows, sep=','): return ''.join(sep.join(r)+'\n' for r in rows)
    def cell(row, column, value): return text([r[:column]+[value]+r[column+1:] if i == row else r for i, r in enumerate(cells)])
    head, class21, class31 = cells[0], cells[0].index('Class2.1'), cells[0].index('Class3.1')
    without = [r[:class31]+r[class31+1:] for r in cells]
    return {
        'empty': '', 'header': text(cells[:1]), 'no-id': text([['name', *head[1:]], *cells[1:]]), 'no-column': text(without),
        'renamed-column': cell(0, class31, 'Class 3.1'),
        'column-twice': text([r+[r[class31]] for r in cells]), 'id-column-twice': text([[r[0], *r] for r in cells]),
        'id-twice': cell(2, 0, '1000001'), 'id-blank': cell(2, 0, ''), 'text': cell(2, class21, 'many'),
        'nan': cell(2, class21, 'nan'), 'negative': cell(2, class21, '-.5'),
        'sum': cell(2, 1, '.95') if float(cells[2][1]) < .5 else cell(2, 1, '.05'), 'semicolons': text(cells, ';'),
        'long-row': text([*cells[:2], [*cells[2], '5'], *cells[3:]]), 'short-row': text([*cells[:2], cells[2][:-1], *cells[3:]]),
        'utf16': text(cells).encode('utf-16'), 'latin1': text([*cells[:2], ['Andr\xe9', *cells[2][1:]]]).encode('latin-1'),
        'nul': cell(2, class21, '0\0'), 'quote': cell(2, class21, '"0'),
        'decimal-comma': text([cells[0], *([r[0], *(f'"{o}"'.replace('.', ',') for o in r[1:])] for r in cells[1:])]),
        'float-ids': text([head, *([f'{r[0]}.0', *r[1:]] for r in cells[1:])]), 'no-image': cell(2, 0, '5000000'),
        'bom': b'\xef\xbb\xbf'+text(cells).encode(), 'few': text(cells[:5]), 'one': text(cells[:2])}


def put(file, content):
    "Write text, bytes, or data as JSON"
    file.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(content, (str, bytes)): content = json.dumps(content)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())


def changed(**values):
    "A damage: other values in a JSON file"
    return lambda f: put(f, json.loads(f.read_text()) | values)


def args(**values): return changed(args=values)
def gone(f): f.unlink()
def content(data): return lambda f: put(f, data)
def cut(f): f.write_bytes(f.read_bytes()[:-1000])
def flipped(f): f.write_bytes(f.read_bytes()[:-4001] + bytes([f.read_bytes()[-4001] ^ 64]) + f.read_bytes()[-4000:])
def weights(fn): return lambda f: save_file({k: fn(v) for k, v in load_file(f).items()}, f)


RUNS = {   # name -> (file of a run, damage to it)
    'no-model-json': ('model.json', gone), 'model-text': ('model.json', content('a model')), 'model-list': ('model.json', content([1])),
    'model-empty': ('model.json', content('')), 'model-newer': ('model.json', changed(format=99)),
    'format-text': ('model.json', changed(format='two')), 'arch': ('model.json', changed(arch='no_such_net')),
    'arch-number': ('model.json', changed(arch=7)), 'arch-hub': ('model.json', changed(arch='hf-hub:someone/something')),
    'args-checkpoint': ('model.json', args(checkpoint_path='pickle.pth')),
    'args-overlay': ('model.json', args(pretrained=True, pretrained_cfg_overlay=dict(file='pickle.pth'))),
    'args-list': ('model.json', changed(args=[1])),
    'no-schema': ('model.json', lambda f: put(f, {k: v for k, v in json.loads(f.read_text()).items() if k != 'schema'})),
    'schema-null': ('model.json', changed(schema=None)),
    'other-schema': ('model.json', lambda f: put(f, f.read_text().replace('"gz2"', '"gz3"'))),
    'hidden': ('model.json', changed(hidden='wide')), 'drop': ('model.json', changed(drop=7)), 'size': ('model.json', changed(size=-1)),
    'crop': ('model.json', changed(crop='x')), 'stats': ('model.json', changed(stats=[1])),
    'stats-zero': ('model.json', changed(stats=[[0, 0, 0], [0, 0, 0]])), 'activation': ('model.json', changed(activation='tanh')),
    'mean': ('model.json', changed(trained_on=dict(mean=[.1, .2]))),
    'no-weights': ('model.safetensors', gone), 'weights-empty': ('model.safetensors', content('')),
    'weights-cut': ('model.safetensors', cut), 'weights-text': ('model.safetensors', content('weights')),
    'weights-pickle': ('model.safetensors', content(pickle.dumps(Malicious()))),
    'weights-other': ('model.safetensors', lambda f: shutil.copy(f.parents[1]/'run'/'model.safetensors', f)),
    'weights-flip': ('model.safetensors', flipped),
    'weights-nan': ('model.safetensors', weights(lambda v: v*float('nan') if v.is_floating_point() else v)),
    'weights-zero': ('model.safetensors', weights(lambda v: v*0)),
    'record-text': ('experiment.json', content('a run')), 'record-list': ('experiment.json', content([1])),
    'record-newer': ('experiment.json', changed(format=99)), 'record-format': ('experiment.json', changed(format='two')),
    'record-kind': ('experiment.json', changed(kind='dream')), 'record-kind-list': ('experiment.json', changed(kind=[1])),
    'record-state': ('experiment.json', changed(state='asleep')), 'record-requested': ('experiment.json', changed(requested=None)),
    'failed': ('experiment.json', changed(state='failed', reason='it diverged')),
    'no-trained-on': ('trained_on.csv', gone), 'trained-on-text': ('trained_on.csv', content(b'\0\xff')),
    'trained-on-zeros': ('trained_on.csv', lambda f: f.write_text(re.sub(r'\d', '0', f.read_text()))), 'no-metrics': ('metrics.json', gone),
    'metrics-text': ('metrics.json', content('good')), 'metrics-list': ('metrics.json', content([1])),
    'metrics-empty': ('metrics.json', content({})), 'metrics-types': ('metrics.json', changed(rmse='low', interval=3, questions='all')),
    'no-history': ('history.csv', gone), 'history-text': ('history.csv', content('it went well')),
    'history-empty': ('history.csv', content('')), 'no-valid': ('valid.csv', gone), 'valid-text': ('valid.csv', content('good')),
    'valid-empty': ('valid.csv', content('')),
    'valid-short': ('valid.csv', lambda f: f.write_text(''.join(f.read_text().splitlines(True)[:-1]))),
    'labels-text': ('valid_labels.csv', content('x'))}
CROSSVALS = {'no-fold': ('fold1', shutil.rmtree), 'no-metrics': ('metrics.json', gone), 'folds': ('metrics.json', changed(folds=[.1]*9)),
             'no-oof': ('oof.csv', gone)}
STUDIES = {'no-trials': ('trials.csv', gone), 'no-best': ('best.toml', gone), 'trials-text': ('trials.csv', content('x')),
           'retrained-text': ('retrained.csv', content('x'))}


def zipped(file, members):
    with zipfile.ZipFile(file, 'w') as z:
        for name, data in members.items(): z.writestr(name, data)


def archives(world):
    "Zips, good and bad"
    jpg = {f'images/{o.name}': o.read_bytes() for o in sorted((world/'images').iterdir())[:4]}
    zipped(world/'few.zip', jpg)
    data = (world/'few.zip').read_bytes()
    put(world/'cut.zip', data[:len(data)//2])
    put(world/'empty.zip', '')
    put(world/'text.zip', 'not a zip')
    zipped(world/'nothing.zip', {})
    zipped(world/'csv.zip', {'ids.csv': 'GalaxyID\n1000003\n'})
    at = data.index(b'1000001.jpg')+5000
    put(world/'i-crc.zip', data[:at] + bytes([data[at] ^ 255]) + data[at+1:])


def images(world):
    "Folders of images, most with one that is bad"
    good = (world/'images'/'1000001.jpg').read_bytes()
    (world/'empty').mkdir()
    put(world/'i-text'/'notes.txt', 'none yet')
    put(world/'i-bad'/'1000001.jpg', good[:500])
    put(world/'i-two'/'1000001.jpg', good)
    put(world/'i-two'/'1000001.png', good)
    (world/'i-folder'/'1000001.jpg').mkdir(parents=True)
    for name in ('i-fifo', 'i-dangling', 'i-bomb', 'i-fits-huge', 'i-not-utf8'): (world/name).mkdir()
    os.mkfifo(world/'i-fifo'/'1000001.jpg')
    (world/'i-dangling'/'1000001.jpg').symlink_to('nowhere')
    put(world/'i-not-utf8'/(STANDS_FOR['<ff>']+'.jpg'), good)
    png = io.BytesIO()
    Image.new('L', (8, 8)).save(png, 'png')
    png = png.getvalue()
    head = b'IHDR' + struct.pack('>II', 10**6, 10**6) + png[24:29]
    put(world/'i-bomb'/'1000001.png', png[:12] + head + struct.pack('>I', zipfile.crc32(head)) + png[33:])
    cards = ['SIMPLE  =                    T', 'BITPIX  =                  -32', 'NAXIS   =                    2',
             'NAXIS1  =               800000', 'NAXIS2  =               800000', 'END']
    put(world/'i-fits-huge'/'1000001.fits', ''.join(o.ljust(80) for o in cards).ljust(2880).encode() + bytes(2880))


def data_folders(world, galaxies):
    "Folders in Kaggle's layout, with a wrong label table or wrong images"
    cells = list(csv.reader(open(galaxies/LABELS)))
    for name, table in labels(cells).items():
        put(world/f'd-{name}'/LABELS, table)
        (world/f'd-{name}'/IMAGES).symlink_to(world/'images')
    good = (galaxies/LABELS).read_bytes()
    for name in ('no-labels', 'no-images', 'two-labels', 'labels-zip', 'labels-zip-two', 'images-zip', 'images-zip-cut',
                 'labels-folder', 'bad-image', 'two-images', 'fifo'): (world/f'd-{name}').mkdir()
    for name in ('no-labels', 'two-labels', 'labels-zip', 'labels-zip-two', 'labels-folder'): (world/f'd-{name}'/IMAGES).symlink_to(world/'images')
    for name in ('no-images', 'images-zip', 'images-zip-cut', 'bad-image', 'two-images', 'fifo'): put(world/f'd-{name}'/LABELS, good)
    for name in 'ab': put(world/'d-two-labels'/f'{name}.csv', good)
    put(world/'d-labels-zip'/'training_solutions_rev1.zip', good)
    zipped(world/'d-labels-zip-two'/'training_solutions_rev1.zip', {'a.csv': good, 'b.csv': good})
    put(world/'d-images-zip'/'images_training_rev1.zip', 'not a zip')
    shutil.copy(world/'cut.zip', world/'d-images-zip-cut'/'images_training_rev1.zip')
    (world/'d-labels-folder'/LABELS).mkdir()
    for name in ('bad-image', 'two-images', 'fifo'): shutil.copytree(galaxies/IMAGES, world/f'd-{name}'/IMAGES)
    put(world/'d-bad-image'/IMAGES/'1000001.jpg', 'not an image')
    shutil.copy(galaxies/IMAGES/'1000001.jpg', world/'d-two-images'/IMAGES/'1000001.png')
    (world/'d-fifo'/IMAGES/'1000001.jpg').unlink()
    os.mkfifo(world/'d-fifo'/IMAGES/'1000001.jpg')


def weight_files(world):
    "Files of weights, none of which fit; those with code write the canary"
    evil = pickle.dumps(Malicious())
    for name in ('pickle.pth', 'pickle.safetensors'): put(world/name, evil)
    zipped(world/'pickle-zip.pth', {'archive/data.pkl': evil, 'archive/version': '3\n', 'archive/byteorder': 'little'})
    head = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}".ljust(117) + b'\n'
    zipped(world/'pickle.npz', {'params.npy': b'\x93NUMPY\x01\x00' + struct.pack('<H', len(head)) + head + evil})
    for suffix in ('pth', 'safetensors'):
        put(world/f'text.{suffix}', 'weights')
        put(world/f'empty.{suffix}', '')
    shutil.copy(world/'run'/'model.safetensors', world/'other.safetensors')
    put(world/'cut.safetensors', (world/'other.safetensors').read_bytes()[:-100])
    configs = {'no-arch': {}, 'list': [1], 'text': 'a model', 'unknown': dict(architecture='no_such_net'), 'number': dict(architecture=7),
               'args': dict(architecture='test_resnet', model_args=[1]), 'pickle': dict(architecture='test_resnet')}
    for name, config in configs.items(): put(world/f'ld-{name}'/'config.json', config)
    put(world/'ld-pickle'/'pytorch_model.bin', evil)
    (world/'ld-empty').mkdir()


def run_folders(world):
    "Copies of a run, a cross-validation and a study with one file damaged"
    for prefix, whole, damages in (('r', 'new', RUNS), ('c', 'cv', CROSSVALS), ('s', 'study', STUDIES)):
        for name, (file, damage) in damages.items():
            shutil.copytree(world/whole, world/f'{prefix}-{name}')
            damage(world/f'{prefix}-{name}'/file)


class Late(BaseException): "A wrong use took too long"


class World:
    "A folder with all kinds of files, and the commands in it"
    def __init__(self, folder, galaxies, cache):
        self.folder, self.env = folder, dict(GZ_FASTAI_CACHE=str(cache), COLUMNS='80', HOME=str(folder/'home'),
                                             KAGGLE_API_ENVIRONMENT='TEST', KAGGLE_USERNAME='', KAGGLE_KEY='', KAGGLEHUB_CACHE=str(folder/'hub'))
        (folder/'galaxies').symlink_to(galaxies)
        (folder/'images').symlink_to(galaxies/IMAGES)
        for name in ('home', 'hub', 'folder.csv', 'full'): (folder/name).mkdir()
        put(folder/'full'/'thesis.tex', 'Chapter 1')
        put(folder/'file.txt', 'a file')
        put(folder/'empty.csv', '')
        (folder/'loop').symlink_to('loop')
        (folder/'dangling').symlink_to('nowhere')
        (folder/'new-link').symlink_to('new')
        for name, data in TOML.items(): put(folder/f'{name}.toml', data)
        for name, data in IDS.items(): put(folder/f'{name}.csv', data)
        for name, data in SCHEMAS.items(): put(folder/f's-{name}.json', data)
        for name, file in dict.fromkeys(SCHEMAS, None).items() | {'none': 's-none.json', 'folder': 'images',
                                                                  'name': 'gz3'}.items(): put(folder/f's-{name}.toml', f'schema = "{file or f"s-{name}.json"}"')
        whole = dict(new=tiny_run(hidden=(8,)), run=tiny_run(arch='vgg7_tiny'), stopped=tiny_run(), cv=tiny_crossval(), study=tiny_study())
        for name, o in whole.items(): copied(o, folder/name)
        changed(state='running')(folder/'stopped'/'experiment.json')
        archives(folder)
        images(folder)
        data_folders(folder, galaxies)
        weight_files(folder)
        run_folders(folder)

    def use(self, command, seconds=30):
        "(exit status, lines on stderr, stdout) of a command, with its warnings on stderr, as in a process of its own"
        for name, text in STANDS_FOR.items(): command = command.replace(name, text)
        name, *words = shlex.split(command)
        env = self.env | dict(o[1:].split('=', 1) for o in words if o.startswith('@'))
        stdout, stderr = io.StringIO(), io.StringIO()
        def late(*_):
            for o in ('i-fifo/1000001.jpg', f'd-fifo/{IMAGES}/1000001.jpg'):     # a thread that waits for one cannot be interrupted
                with contextlib.suppress(OSError): os.close(os.open(self.folder/o, os.O_WRONLY | os.O_NONBLOCK))
            raise Late(f'took more than {seconds} s')
        before = [(o, signal.signal(o, late)) for o in (signal.SIGPROF, signal.SIGALRM)]
        with pytest.MonkeyPatch.context() as m, warnings.catch_warnings(record=True) as shown:
            warnings.simplefilter('default')
            for kind in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning): warnings.simplefilter('ignore', kind)
            m.chdir(self.folder)
            for k, v in env.items(): m.setenv(k, v)
            signal.setitimer(signal.ITIMER_PROF, seconds, 1)
            signal.setitimer(signal.ITIMER_REAL, 5*seconds, 1)      # where it waits for something
            try: status = in_process(f'gz_fastai_{name}', [o for o in words if not o.startswith('@')], stdout, stderr)
            except (Exception, Late): status, _ = 'traceback', stderr.write(traceback.format_exc())
            finally:
                for timer in (signal.ITIMER_PROF, signal.ITIMER_REAL): signal.setitimer(timer, 0)
                for o, handler in before: signal.signal(o, handler)
        return status, [o for o in stderr.getvalue().splitlines() if o] + [f'{o.category.__name__}: {o.message}' for o in shown], stdout.getvalue()

    def names(self): return {str(o) for o in self.folder.rglob('*') if 'hub' not in o.parts and 'home' not in o.parts}


def problems(world, status, command, parts, seconds=30):
    "How a wrong use was not refused as it should be; empty where it was"
    got, lines, out = world.use(command, seconds)
    left = sorted(world.names()-world.before)
    for name in left: (shutil.rmtree if Path(name).is_dir() else os.unlink)(name) if os.path.lexists(name) else None
    if str(got) not in status.split(): return f'status {got}, not {status}: ' + ' / '.join(lines[-3:]) + out[-300:]
    if got == 0: return '' if status != '0' or parts in '\n'.join(lines) else f'lacks {parts}'      # a warning
    if str(world.folder/'canary') in left: return 'ran code'
    if 'epoch 0' in out: return 'trained'
    if got == 1 and command.startswith('data check') and not lines: return ''      # the findings are on stdout
    if len(lines) != 1: return f'{len(lines)} lines: ' + ' / '.join(lines)
    for name, text in STANDS_FOR.items(): parts = parts.replace(name, text)
    def named(text):     # as it is, or with escapes
        return any(o in lines[0] for o in (text, os.fsencode(text).decode(errors='backslashreplace'), text.encode('unicode_escape').decode()))
    lacks = [o for o in parts.split('|') if not named(o)]
    if not lines[0].startswith(f'gz_fastai_{command.split()[0]}') or lacks: return f'lacks {lacks}: {lines[0]}'
    if len(lines[0]) > 2000: return f'{len(lines[0])} characters: {lines[0][:200]}'
    return f'left {[os.path.relpath(o, world.folder) for o in left]}' if left else ''


@pytest.fixture(scope='module')
def world(galaxies, cache, tmp_path_factory):
    res = World(tmp_path_factory.mktemp('world'), galaxies, cache)
    for s in settings().values():
        for i, (_, toml, _) in enumerate(wrong_values(s)): put(res.folder/'settings'/f'{s.name}-{i}.toml', toml)
    res.before = res.names()
    return res


def wrong_values(s):
    "Values that a setting cannot have, as TOML: (what is wrong, a settings file, parts of the error)"
    wrong = {str: ['5', 'true', '["a"]', '{a = 1}'], int: ['"many"', '1.5', 'true', '[1]', 'nan'], float: ['"many"', 'true', '[0.1]', 'nan',
            '{}'], bool: ['1', '"yes"', '[]'], tuple: ['5', '[0]', '["a"]', '[1.5]', '[true]', '[[8]]', '[-1]']}[s.type]
    if s.range: wrong = [*wrong, *(f'{o}' for o in ((s.range.low-1, s.range.high+1) if s.type is int else (float(s.range.low)-.5, float(s.range.high)*2)))]
    if s.choices: wrong.append('"nonsense"')
    if s.many: wrong = [*wrong, '[[48, 64]]', '[64, 48]', '[48, "a"]'] if s.type is int else [o for o in wrong if o != '["a"]']
    return [(o, f'{s.name} = {o}\n', f'{s.name}|settings/{s.name}-') for o in wrong]


def named(row): return f'{row["kind"]}: {row["command"]}'.encode('ascii', 'backslashreplace').decode()


def rows():
    "The rows of the table; the first of each kind for each command is quick"
    seen, table = set(), [*csv.DictReader(open(HERE/'wrong_uses.csv'))]
    assert len({o['command'] for o in table}) == len(table)
    for row in table:
        first = (row['kind'], row['command'].split()[0])
        yield pytest.param(row, id=named(row), marks=[] if first in seen else [pytest.mark.quick])
        seen.add(first)


@pytest.mark.parametrize('row', rows())
def test_wrong_use(world, row):
    problem = problems(world, row['status'], row['command'], row['parts'])
    assert not problem, problem


@pytest.mark.quick
@pytest.mark.parametrize('setting', settings().values(), ids=lambda s: s.name)
def test_wrong_values_of_a_setting(world, setting):
    for i, (value, _, parts) in enumerate(wrong_values(setting)):
        problem = problems(world, '2', f'train --config settings/{setting.name}-{i}.toml', parts)
        assert not problem, (value, problem)


STEPS = {   # what each command does last: a function to fail in its place
    'train --data galaxies --out out': 'gz_fastai.training.train.train',
    'crossval --data galaxies --out out': 'gz_fastai.training.crossval.crossval',
    'tune --data galaxies --out out': 'gz_fastai.training.tune.tune',
    'predict new --images images --out p.csv': 'gz_fastai.inference.predict.predict_images',
    'report new --out x.html': 'gz_fastai.report.pages.write_report',
    'baseline --data galaxies --out out': 'gz_fastai.inference.baselines.write_baselines',
    'data sample out': 'gz_fastai.data.sample.make_sample',
    'data check galaxies': 'gz_fastai.data.audit.audit_folder',
    'data fetch out': 'gz_fastai.data.fetch.fetch_competition'}
FULL = OSError(errno.ENOSPC, 'No space left on device', 'out/file')
FAILURES = {'Ctrl-C': (KeyboardInterrupt(), '130', ''), 'full': (FULL, '1', 'out/file'), 'memory': (MemoryError(), '1', 'emory')}


@pytest.mark.quick
@pytest.mark.parametrize('failure', FAILURES)
@pytest.mark.parametrize('command', STEPS)
def test_a_failure_of_the_machine_is_one_line(world, monkeypatch, command, failure):
    error, status, parts = FAILURES[failure]
    def fail(*args, **kwargs): raise error
    monkeypatch.setattr(STEPS[command], fail)
    problem = problems(world, status, command, parts)
    assert not problem, problem
