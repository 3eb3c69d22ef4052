// Keys, marks without a new page, and images that are dropped on the page. Everything works without it, too.
const all = (s, e = document) => [...e.querySelectorAll(s)];
const cards = () => all('.wall .galaxy');
let current = -1;

function focusCard(i) {
  const list = cards();
  if (!list.length) return;
  current = Math.max(0, Math.min(list.length - 1, i));
  list[current].querySelector('a.open').focus();
  list[current].scrollIntoView({block: 'nearest'});
}
function across() {
  const list = cards();
  const n = list.findIndex(c => c.offsetTop > list[0].offsetTop);
  return n < 0 ? list.length : n;
}
document.addEventListener('focusin', e => {
  const card = e.target.closest('.wall .galaxy');
  if (card) current = cards().indexOf(card);
});

async function mark(form, answer) {
  const data = new FormData(form);
  const button = form.querySelector(`button[value="${answer}"]`);
  const on = button.getAttribute('aria-pressed') === 'true';
  data.set('answer', on ? '' : answer);
  const res = await fetch('/mark', {method: 'POST', body: data, headers: {Accept: 'application/json'}});
  if (!res.ok) { alert('The mark was not saved: ' + (await res.text())); return; }
  for (const b of all('button', form)) b.setAttribute('aria-pressed', String(b === button && !on));
}
document.addEventListener('submit', e => {
  const form = e.target.closest('form.mark');
  if (!form || !e.submitter) return;
  e.preventDefault();
  mark(form, e.submitter.value);
});

document.addEventListener('keydown', e => {
  if (e.target.matches('input, select, textarea') || e.ctrlKey || e.metaKey || e.altKey) return;
  const card = cards()[current], go = s => document.querySelector(s)?.click();
  const form = card?.querySelector('form.mark') ?? document.querySelector('.one form.mark');
  const step = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: across(), ArrowUp: -across()}[e.key];
  if (step && document.querySelector('form.find')) focusCard(current < 0 ? 0 : current + step);
  else if (e.key === 'ArrowRight') go('a[rel=next]');
  else if (e.key === 'ArrowLeft') go('a[rel=prev]');
  else if (e.key === ']') go('a[rel=next]');
  else if (e.key === '[') go('a[rel=prev]');
  else if (e.key === 'Escape') go('a[rel=up]');
  else if (e.key === 'w' && form) mark(form, 'yes');
  else if (e.key === 'x' && form) mark(form, 'no');
  else if (e.key === 'm') (card?.querySelector('a.like') ?? document.querySelector('.one a.like'))?.click();
  else if (e.key === '/') document.querySelector('input[type=search]')?.focus();
  else return;
  e.preventDefault();
});

const drop = document.querySelector('form.drop');
document.addEventListener('dragover', e => { e.preventDefault(); document.body.classList.add('over'); });
document.addEventListener('dragleave', () => document.body.classList.remove('over'));
document.addEventListener('drop', e => {
  e.preventDefault();
  document.body.classList.remove('over');
  if (!e.dataTransfer.files.length) return;
  drop.querySelector('input').files = e.dataTransfer.files;
  drop.submit();
});

// what takes a network longer comes when somebody gets there
const coming = new IntersectionObserver(seen => seen.filter(o => o.isIntersecting).forEach(({target}) => {
  coming.unobserve(target);
  fetch(target.dataset.load, {headers: {Accept: 'text/html'}}).then(async res => { if (res.ok) target.innerHTML = await res.text(); });
}));
all('[data-load]').forEach(o => coming.observe(o));
