"What several tests need: a small folder of synthetic galaxies, the commands, and a browser; `tiny` has trained networks."
import contextlib
import functools
import http.server
import io
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from urllib.parse import quote

import pytest
from tiny import tiny_galaxies

from gz_fastai import cli
from gz_fastai.data.fetch import COMPETITION_FILES

LABELS, IMAGES = 'training_solutions_rev1.csv', 'images_training_rev1'

if 'PYTEST_XDIST_WORKER' in os.environ: os.environ.setdefault('OMP_NUM_THREADS', '1')      # the trainings of two files run side by side


MARKS = dict(browser=pytest.mark.site, site=pytest.mark.site, pages=pytest.mark.site, postgres=pytest.mark.services, cluster=pytest.mark.services)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    "What needs a browser or a server is marked by its fixture"
    for item in items:
        for name in {*MARKS} & {*item.fixturenames}: item.add_marker(MARKS[name])


@pytest.fixture(scope='session')
def galaxies():
    "A folder in Kaggle's layout with 80 synthetic galaxies, not to be changed"
    return tiny_galaxies(80)


def zipped(galaxies, to):
    "The files of the competition as they are downloaded, with the galaxies of the sample"
    to.mkdir()
    for name in COMPETITION_FILES:
        with zipfile.ZipFile(to/name, 'w') as z:
            if 'solutions' in name: z.write(galaxies/LABELS, LABELS)
            elif 'images' in name:
                for f in sorted((galaxies/IMAGES).iterdir()): z.write(f, f'{name[:-4]}/{f.name}')
            else: z.writestr(name.replace('.zip', '.csv'), 'GalaxyID\n')
    return to


@pytest.fixture
def damaged(galaxies, tmp_path):
    "A copy of `galaxies` to damage"
    return Path(shutil.copytree(galaxies, tmp_path/'galaxies'))


@pytest.fixture(scope='session')
def cache(tmp_path_factory): return tmp_path_factory.mktemp('cache')


def in_process(name, args, stdout, stderr):
    "The exit status of a command that is called like a function"
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        try: getattr(cli, name.replace('gz_fastai_', '')+'_command')([str(o) for o in args])
        except SystemExit as e: return e.code or 0
    return 0


def no_report(exp):
    "In place of `write_report`, which takes longer than an epoch"
    (exp.path/'report.html').write_text('not written in this test')


@pytest.fixture
def command(cache, tmp_path, monkeypatch):
    """Run a command in an empty folder, at 80 columns: in this process, which has loaded torch already, and without the report of what
    it trains unless `report` asks for it. With `bin`, a folder with the installed programs, it runs as users run it."""
    monkeypatch.chdir(tmp_path)
    def run(name, *args, bin=None, timeout=600, report=False, **env):
        env = dict(GZ_FASTAI_CACHE=str(cache), COLUMNS='80', LINES='40') | env
        if bin:
            env = {k: v for k,v in os.environ.items() if k != 'PYTHONPATH'} | env
            return subprocess.run([bin/name, *map(str, args)], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=timeout)
        with monkeypatch.context() as m:
            for k,v in env.items(): m.setenv(k, v)
            if not report and name != 'gz_fastai_report': m.setattr('gz_fastai.report.pages.write_report', no_report)
            stdout, stderr = io.StringIO(), io.StringIO()
            status = in_process(name, args, stdout, stderr)
        return subprocess.CompletedProcess([name, *args], status, stdout.getvalue(), stderr.getvalue())
    return run


BIN = Path(sys.executable).parent # the programs of this environment


@pytest.fixture(scope='session')
def real_data():
    "The folder of real galaxies in Kaggle's layout"
    folder = os.environ.get('GZ_FASTAI_REAL_DATA')
    if not folder: pytest.skip('GZ_FASTAI_REAL_DATA is not set')
    return Path(folder)


BROWSER = next(filter(None, map(shutil.which, ['chromium', 'chromium-browser', 'google-chrome'])), None)
SLOW = 180_000 # milliseconds to wait for a page on a busy machine
LOOK = '''() => ({scroll: document.documentElement.scrollWidth, width: document.documentElement.clientWidth, images: document.images.length,
  broken: [...document.images].filter(o => !o.naturalWidth).map(o => o.src.slice(0, 99)), figures: document.querySelectorAll("svg").length, text: document.body.innerText})'''


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args): pass


@contextlib.contextmanager
def served(folder):
    "A server on localhost; its address"
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(_Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try: yield f'http://127.0.0.1:{server.server_port}'
        finally: server.shutdown()


@pytest.fixture(scope='module')
def browser():
    "A Chromium for the tests of a file"
    if not BROWSER: pytest.skip('no Chromium here')
    api = pytest.importorskip('playwright.sync_api')
    with api.sync_playwright() as p:
        b = p.chromium.launch(executable_path=BROWSER, args=['--no-sandbox', '--disable-gpu'])
        yield b
        b.close()


@pytest.fixture
def visit(browser):
    "What a browser sees of an HTML file in a window of some width, and what it logged on its console"
    tab, logged, folders = browser.new_page(), [], contextlib.ExitStack()
    url_of = functools.cache(lambda root: folders.enter_context(served(root)))
    tab.set_default_timeout(SLOW)
    tab.on('console', lambda o: logged.append(o.text))
    tab.on('pageerror', lambda o: logged.append(str(o)))
    def look(page, width=390, query='', root=None, wait_for=''):
        root = root or page.parent
        logged.clear()
        tab.set_viewport_size(dict(width=width, height=800))
        tab.goto(f'{url_of(root)}/{quote(str(page.relative_to(root)))}{query}')
        if wait_for: tab.locator('body', has_text=wait_for).wait_for()
        return tab.evaluate(LOOK), [o for o in logged if 'favicon' not in o]
    with folders: yield look
    tab.close()
