"A signal to the launcher reaches the processes that it started, and they end with a launcher that is killed."
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = '''
import os, sys, time
from gz_fastai.distributed import *
if 'RANK' in os.environ:
    with process_group():
        with open(sys.argv[1]+'.new'+os.environ['RANK'], 'w') as f: f.write(str(os.getpid()))
        os.rename(f.name, sys.argv[1]+os.environ['RANK'])
        time.sleep(600)
status,line = launch([sys.executable, *sys.argv], 2)
print(line)
sys.exit(status)
'''


def wait_for(what, seconds=120):
    end = time.time()+seconds
    while not what():
        assert time.time() < end, 'timed out'
        time.sleep(.05)


def alive(pid):
    try: return 'Z' not in Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0]
    except OSError: return False


@pytest.mark.skipif(not Path('/proc/self/stat').exists(), reason='no /proc, in which processes are found')
@pytest.mark.parametrize('number, status', [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_the_processes_end(tmp_path, number, status):
    (tmp_path/'script.py').write_text(SCRIPT)
    p = subprocess.Popen([sys.executable, str(tmp_path/'script.py'), str(tmp_path/'pid')], stdout=subprocess.PIPE)
    wait_for(lambda: len(list(tmp_path.glob('pid[01]'))) == 2)
    both = [int(o.read_text()) for o in tmp_path.glob('pid[01]')]
    assert all(map(alive, both))
    p.send_signal(number)
    assert p.wait(120) == status
    wait_for(lambda: not any(map(alive, both)))
